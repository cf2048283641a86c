"""`ferryman verify`: whether files are what a project has released, asked of everything that says something about them.

Each question is a policy (:mod:`ferryman_release.verify.policies` lists them): it takes the subject and the evidence that
lies beside it, and answers Held, Failed or Skipped with a reason. Rules:

1. What is trusted comes from the caller (keys, root metadata), never from where the files came from.
2. Without a selection every policy is asked, and those without evidence are skipped; but at least one that is
   cryptographic must hold for each file against something that the caller trusts, or nothing vouches for it and it fails.
3. A policy that was asked for by name must hold: missing evidence is then a failure.
4. Nothing that was looked at is no success: a folder that lists no artifact fails.
5. Nothing of what is read can break the reader down, nor reach the terminal as more than text.
"""
