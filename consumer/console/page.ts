import { join } from 'node:path'
import { NOSNIFF } from '../../shared/http/http.ts'

/** The console's page, as files for browsers. It is made of its sources when the process starts. */

export interface Page {
  /** What a path has; undefined: nothing. */
  answer(request: Request, path: string): Promise<Response | undefined>
}

/** What it may load: what comes from here, and nothing that is written into the document. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ')

/** Its name has the hash of its content. */
const FOR_EVER = 'public, max-age=31536000, immutable'

interface File {
  body: Uint8Array<ArrayBuffer>
  gzipped: Uint8Array<ArrayBuffer>
  type: string
}

const ENTRY = join(import.meta.dir, 'page/index.html')

/** @throws AggregateError for sources that cannot be bundled */
export async function buildPage(): Promise<Page> {
  const { outputs } = await Bun.build({
    entrypoints: [ENTRY],
    minify: true,
    target: 'browser',
    define: { 'process.env.NODE_ENV': '"production"' },
    naming: { entry: '[name].[ext]', chunk: 'assets/[name]-[hash].[ext]', asset: 'assets/[name]-[hash].[ext]' },
  })
  const files = new Map<string, File>()
  for (const output of outputs) {
    const body = new Uint8Array(await output.arrayBuffer())
    const path = output.path.replace(/^\.?\/?/, '/')
    files.set(path === '/index.html' ? '/' : path, {
      body,
      gzipped: Bun.gzipSync(body, { level: 9 }),
      type: output.type,
    })
  }
  return {
    async answer({ headers }, path) {
      const file = files.get(path)
      if (file === undefined) return undefined
      const isGzipped = /\bgzip\b(?!\s*;\s*q=0(?:\.0*)?(?![.\d]))/.test(headers.get('accept-encoding') ?? '')
      return new Response(isGzipped ? file.gzipped : file.body, {
        headers: {
          'content-type': file.type,
          ...(isGzipped ? { 'content-encoding': 'gzip' } : {}),
          vary: 'accept-encoding',
          'cache-control': path === '/' ? 'no-cache' : FOR_EVER,
          ...(path === '/' ? { 'content-security-policy': POLICY } : {}),
          'referrer-policy': 'no-referrer',
          'cross-origin-opener-policy': 'same-origin',
          'cross-origin-resource-policy': 'same-origin',
          ...NOSNIFF,
        },
      })
    },
  }
}
