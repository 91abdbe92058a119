import { readFileSync } from 'node:fs'
import { listen } from '../http/listener.ts'

/** A public port, and a second one that reads a file for each request, as a process that a test gives few descriptors. */

const say = (line: object): void => void process.stdout.write(`${JSON.stringify(line)}\n`)
const answer = () => new Response('here')
const options = { hostname: '127.0.0.1', port: 0, idleTimeoutSeconds: 100 }
const open = listen({ ...options, fetch: answer, onScarce: (isScarce) => say({ isScarce }) })
const ops = listen({ ...options, fetch: () => new Response(readFileSync(import.meta.path)) })
say({ port: open.port, opsPort: ops.port })
