/* What Windows reads about a program before it starts. It says the same as python.exe's: that it knows Windows 10, or
   else it is told that this is Windows 8, and Python with it; that it takes long paths, where the machine allows them;
   that it needs no more rights than who starts it; that its dialogs look like the system's. It is a resource, and
   written as assembler because a resource has to hold an address relative to the image, for which C has no word. */

/* Folders by kind, by name and by language, each with one entry; the kind is 24, a manifest, and the name 1, that of an
   executable. */
#define FOLDER(id, next) ".long 0, 0, 0\n.short 0, 1\n.long " id ", " next "\n"
#define BELOW "0x80000000 + "

__asm__(".section .rsrc$01,\"dr\"\n"
        ".balign 4\n" FOLDER("24", BELOW "24") FOLDER("1", BELOW "48") FOLDER("0", "72")
        ".rva ferryman_manifest\n"
        ".long ferryman_manifest_end - ferryman_manifest, 0, 0\n"
        ".section .rsrc$02,\"dr\"\n"
        ".balign 4\n"
        "ferryman_manifest:\n"
        ".ascii \"<?xml version='1.0' encoding='UTF-8' standalone='yes'?>\"\n"
        ".ascii \"<assembly xmlns='urn:schemas-microsoft-com:asm.v1' manifestVersion='1.0'>\"\n"
        ".ascii \"<trustInfo xmlns='urn:schemas-microsoft-com:asm.v3'><security><requestedPrivileges>\"\n"
        ".ascii \"<requestedExecutionLevel level='asInvoker' uiAccess='false'/>\"\n"
        ".ascii \"</requestedPrivileges></security></trustInfo>\"\n"
        ".ascii \"<compatibility xmlns='urn:schemas-microsoft-com:compatibility.v1'><application>\"\n"
        ".ascii \"<supportedOS Id='{8e0f7a12-bfb3-4fe8-b9a5-48fd50a15a9a}'/>\"\n"
        ".ascii \"</application></compatibility>\"\n"
        ".ascii \"<application xmlns='urn:schemas-microsoft-com:asm.v3'><windowsSettings>\"\n"
        ".ascii \"<longPathAware xmlns='http://schemas.microsoft.com/SMI/2016/WindowsSettings'>true</longPathAware>\"\n"
        ".ascii \"</windowsSettings></application>\"\n"
        ".ascii \"<dependency><dependentAssembly>\"\n"
        ".ascii \"<assemblyIdentity type='win32' name='Microsoft.Windows.Common-Controls' version='6.0.0.0'\"\n"
        ".ascii \" processorArchitecture='*' publicKeyToken='6595b64144ccf1df' language='*'/>\"\n"
        ".ascii \"</dependentAssembly></dependency>\"\n"
        ".ascii \"</assembly>\"\n"
        "ferryman_manifest_end:\n");
