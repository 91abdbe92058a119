/** `bun run check:cluster`: checks that need a Kubernetes cluster, on clusters that it builds and starts. */
import { runChecks } from '../checks/run-checks.ts'
import { apiServer } from './api-server.ts'
import { compose } from './compose.ts'
import { kwok } from './kwok.ts'
import { onNode, repeated } from './on-node.ts'

const help = `Checks the charts on Kubernetes clusters that it starts: bun run check:cluster [repeat | TEXT…] [--list]

  repeat   25 upgrades and rollbacks under load, an hour and more on two cores, and nothing else
  TEXT     only checks whose area or name contains this
  --list   the checks, a line each
  --help   this text

Kubernetes and the other tools are built once, into the user's cache: half an hour and more on two cores. Go, openssl and Debian's apt-get are required.
`

// The nodes take longest. Docker's engine loads images while they do, and nothing is measured yet.
const areas = [onNode, compose, kwok, apiServer]
await runChecks(process.argv[2] === repeated.name ? [repeated] : areas, help)
