/** `bun run check:deploy`: all checks of dependencies, images, charts, monitoring, delivery and clients that need no cluster. */
import { charts } from './charts.ts'
import { clients } from './clients.ts'
import { delivery } from './delivery.ts'
import { dependencies } from './dependencies.ts'
import { images } from './images.ts'
import { monitoring } from './monitoring.ts'
import { runChecks } from './run-checks.ts'

const help = `Checks dependencies, images, charts, monitoring, delivery and clients: bun run check:deploy [TEXT…] [--list]

  TEXT     only checks whose area or name contains this
  --list   the checks, a line each
  --help   this text

Tools are installed into the user's cache. Go, Python, npm, Java 17, Maven and Debian's apt-get are required.
`

await runChecks([monitoring, images, charts, dependencies, delivery, clients], help)
