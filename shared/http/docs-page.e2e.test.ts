import { afterAll, expect } from 'bun:test'
import { BROWSERS } from '../dev/requirements.ts'
import { openPage } from '../testing/browser.ts'
import { testWith } from '../testing/test-with.ts'
import { until } from '../testing/until.ts'
import { docsPage } from './docs-page.ts'

const METHODS = ['get', 'post', 'put', 'delete', 'options']
const BODY = { required: true, content: { 'application/json': { example: { a: 1 } } } }

const operationOf = (method: string) => ({
  summary: `To ${method}`,
  parameters: [{ name: 'limit', in: 'query', description: 'At most so many.' }],
  ...(method === 'put' ? { requestBody: BODY } : {}),
  responses: { 200: { description: 'Done.' } },
})

const DOCUMENT = {
  info: { title: 'Things', summary: 'S', description: 'D' },
  security: [],
  paths: {
    '/things/{id}': {
      parameters: [{ $ref: '#/components/parameters/id' }],
      ...Object.fromEntries(METHODS.map((method) => [method, operationOf(method)])),
    },
    '/only-get': { get: { summary: 'All', responses: {} } },
  },
  components: {
    schemas: {},
    parameters: { id: { name: 'id', in: 'path', required: true, description: 'Which one.' } },
  },
}

const page = docsPage()
const server = Bun.serve({
  port: 0,
  hostname: '127.0.0.1',
  routes: {
    '/docs': () => new Response(page.html, { headers: page.headers }),
    '/openapi.json': () => Response.json(DOCUMENT),
  },
  fetch: async (request) => {
    const { pathname, search } = new URL(request.url)
    return new Response(`${request.method} ${pathname}${search} ${await request.text()}`)
  },
})
afterAll(() => server.stop(true))

testWith(
  BROWSERS,
  'the API page draws every method that a description has, with its parameters, and sends it',
  async () => {
    const opened = await openPage(`http://127.0.0.1:${server.port}/docs`)
    try {
      const all = (selector: string) =>
        opened.evaluate(`JSON.stringify([...document.querySelectorAll('${selector}')].map((one) => one.textContent))`)
      await until(async () => opened.errors.length > 0 || (await all('.method')) !== '[]')
      const drawn = JSON.parse(String(await all('.method')))
      expect(drawn).toEqual([...METHODS, 'get'].map((one) => one.toUpperCase()))
      expect(JSON.parse(String(await all('section:first-of-type th')))).toEqual(['id *', 'limit', '200'])

      for (const [method, limit, expected] of [
        ['get', '5', 'GET /things/a%2Fb?limit=5 '],
        ['put', '', 'PUT /things/a%2Fb { "a": 1 }'],
        ['delete', '', 'DELETE /things/a%2Fb '],
      ] as const) {
        const at = METHODS.indexOf(method)
        await opened.evaluate(`{
          const form = document.querySelectorAll('section')[${at}]
          form.querySelector('input[id^=id-]').value = 'a/b'
          form.querySelector('input[id^=limit-]').value = '${limit}'
          form.querySelector('.send button').click()
        }`)
        const text = (selector: string) =>
          opened.evaluate(`document.querySelectorAll('section')[${at}].querySelector('${selector}').textContent`)
        // The status comes before the body; the button says that all has come.
        await until(async () => (await text('.send button')) === 'Send')
        expect(await text('[role=status]')).toBe('200 OK')
        expect(
          String(await text('.answer'))
            .split('\n\n')
            .at(-1)
            ?.replaceAll(/\s+/g, ' '),
        ).toBe(expected)
      }
      expect(opened.errors).toEqual([])
    } finally {
      await opened.close()
    }
  },
  60_000,
)
