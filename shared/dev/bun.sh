# Bun by its name where the path has it, else the one that runs the script: `/opt/bun run dev` puts no bun on the path, and npx leaves its own npm_execpath.
exec "$(command -v bun || echo "$npm_execpath")" "$@"
