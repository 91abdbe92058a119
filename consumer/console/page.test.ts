import { describe, expect, test } from 'bun:test'
import { buildPage } from './page.ts'

/** Compressed, all that is loaded before anything is seen. */
const MOST_BYTES = 150 * 1024

describe('the page', async () => {
  const page = await buildPage()
  const get = (path: string, encoding = 'gzip, deflate, br') =>
    page.answer(new Request('http://localhost/', { headers: { 'accept-encoding': encoding } }), path)
  const html = async () => (await get('/', ''))?.text() ?? ''

  test('loads its own files only, and has nothing in the document that a policy would refuse', async () => {
    const answer = await get('/')
    const policy = answer?.headers.get('content-security-policy') ?? ''
    expect(policy).toContain("default-src 'none'")
    expect(policy).not.toContain('unsafe')
    expect(answer?.headers.get('cache-control')).toBe('no-cache')
    const text = await html()
    expect(text).not.toMatch(/<script(?![^>]*\bsrc=)|<style|\son\w+=|style=/i)
    const links = [...text.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, link = '']) => link)
    expect(links.length).toBeGreaterThan(2)
    expect(links.every((link) => link.startsWith('./assets/'))).toBe(true)
  })

  test('is small, and kept for ever by a name that changes with it', async () => {
    let bytes = 0
    for (const [, path = ''] of (await html()).matchAll(/(?:src|href)="\.([^"]+)"/g)) {
      const answer = await get(path)
      expect(answer?.status).toBe(200)
      expect(answer?.headers.get('content-encoding')).toBe('gzip')
      expect(answer?.headers.get('cache-control')).toContain('immutable')
      expect(answer?.headers.get('x-content-type-options')).toBe('nosniff')
      const packed = new Uint8Array((await answer?.arrayBuffer()) ?? new ArrayBuffer(0))
      bytes += packed.length
      expect(Bun.gunzipSync(packed).length).toBe((await (await get(path, 'identity'))?.bytes())?.length ?? -1)
    }
    expect(bytes).toBeLessThan(MOST_BYTES)
  })

  test('has nothing else', async () => {
    for (const path of ['/index.html', '/assets/', '/assets/nothing.js', '/main.tsx', '//'])
      expect(await get(path)).toBeUndefined()
  })
})
