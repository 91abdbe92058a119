import { describe, expect, test } from 'bun:test'
import { docsPage } from './docs-page.ts'

describe('the API page', () => {
  test('loads nothing from elsewhere and allows nothing but itself', () => {
    const { html, headers } = docsPage()
    expect(html).not.toMatch(/(src|href)="(https?:)?\/\//)
    const textOf = (tag: string) => new RegExp(`<${tag}[^>]*>([\\s\\S]*?)</${tag}>`).exec(html)?.[1] ?? ''
    expect(() => new Bun.Transpiler({ loader: 'js' }).scan(textOf('script'))).not.toThrow()
    const hashOf = (tag: string) => new Bun.CryptoHasher('sha256').update(textOf(tag)).digest('base64')
    expect(headers).toEqual({
      'content-type': 'text/html; charset=utf-8',
      'content-security-policy': [
        "default-src 'none'",
        "connect-src 'self'",
        `style-src 'sha256-${hashOf('style')}'`,
        `script-src 'sha256-${hashOf('script')}'`,
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
      ].join('; '),
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer',
    })
  })
})
