import { describe, expect, test } from 'bun:test'
import { docsPage } from './docs-page.ts'

describe('the API page', () => {
  test('loads nothing from elsewhere and allows nothing but itself', () => {
    const { html, headers } = docsPage()
    expect(headers['content-security-policy']).not.toMatch(/unsafe|https?:|\*/)
    expect(html).not.toMatch(/(src|href)="(https?:)?\/\//)
    const policy = headers['content-security-policy'] ?? ''
    expect(policy).toContain("default-src 'none'")
    for (const [tag, directive] of [
      ['style', 'style-src'],
      ['script', 'script-src'],
    ] as const) {
      const text = new RegExp(`<${tag}[^>]*>([\\s\\S]*?)</${tag}>`).exec(html)?.[1] ?? ''
      if (tag === 'script') expect(() => new Bun.Transpiler({ loader: 'js' }).scan(text)).not.toThrow()
      expect(policy).toContain(`${directive} 'sha256-${new Bun.CryptoHasher('sha256').update(text).digest('base64')}'`)
    }
  })
})
