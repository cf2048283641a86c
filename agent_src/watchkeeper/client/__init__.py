"""The commands that speak to a running agent. Neither asyncio nor aiohttp is needed here."""
