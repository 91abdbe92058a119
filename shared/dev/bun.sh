# Prefers the Bun on PATH. `/opt/bun run dev` puts no bun on PATH, and npx sets npm_execpath to its own npm, so neither works in every case.
exec "$(command -v bun || echo "$npm_execpath")" "$@"
