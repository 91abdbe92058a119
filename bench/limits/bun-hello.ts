/** A limit: what Bun.serve can do with a function that answers a fixed text. Environment: PORT. */

const server = Bun.serve({
  hostname: '127.0.0.1',
  port: Number(process.env['PORT']),
  fetch: () => new Response('hello'),
})
process.on('SIGTERM', () => void server.stop(true).then(() => process.exit(0)))
