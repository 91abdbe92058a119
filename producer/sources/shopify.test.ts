import { describe, expect, test } from 'bun:test'
import { createHmac } from 'node:crypto'
import { gateway, SECRETS, testSigned } from '../testing/gateway.ts'
import { shopify } from './shopify.ts'

const [SECRET] = SECRETS
const sign = (body: string, secret: string) => ({
  'x-shopify-hmac-sha256': createHmac('sha256', secret).update(body).digest('base64'),
})
// shopify.dev, "Webhooks delivery structure"; the values are made up in its form.
const DELIVERY = {
  'x-shopify-topic': 'orders/create',
  'x-shopify-shop-domain': 'cool-store.myshopify.com',
  'x-shopify-api-version': '2026-04',
  'x-shopify-webhook-id': 'b54557e4-bdd9-4b37-8a5f-bf7d70bcd043',
  'x-shopify-event-id': '98880550-7158-44d4-b7cd-2c97c8a091b5',
  'x-shopify-triggered-at': '2026-04-22T14:30:00.877041743Z',
}
/** As the topic's sample payload, whose id is beyond 2^53. */
const ORDER =
  '{"id":820982911946154508,"admin_graphql_api_id":"gid:\\/\\/shopify\\/Order\\/820982911946154508","currency":"USD","email":"jon@example.com","line_items":[{"id":487817672276298554,"price":"74.99"}]}'

const source = () => gateway({ shop: { kind: 'shopify', secrets: [SECRET] } }, { kinds: [shopify] })

/** Sends a body that is signed. */
async function sent(body: string, headers: Record<string, string> = {}) {
  const { send, events } = source()
  const response = await send('shop', body, { ...DELIVERY, ...headers, ...sign(body, SECRET) })
  return { status: response.status, events: events() }
}

describe('Shopify', () => {
  testSigned({
    declare: (secrets) => ({ kind: 'shopify', secrets }),
    headers: DELIVERY,
    body: ORDER,
    sign,
    isTimed: false,
  })

  test('the event is named by its headers, and its body is kept byte for byte', async () => {
    expect(await sent(ORDER)).toEqual({
      status: 202,
      events: [
        {
          id: DELIVERY['x-shopify-webhook-id'],
          type: 'com.shopify.orders.create',
          source: 'https://cool-store.myshopify.com',
          subject: 'gid://shopify/Order/820982911946154508',
          time: '2026-04-22T14:30:00.877041743Z',
          key: 'gid://shopify/Order/820982911946154508',
          datacontenttype: 'application/json',
          data: ORDER,
          form: undefined,
        },
      ],
    })
  })

  test.each([
    ['products/update', '{"id":9554194432293,"title":"T-Shirt"}', 'products.update', '9554194432293'],
    ['orders/create', '{"id":820982911946154508}', 'orders.create', '820982911946154508'],
    ['customer.tags_added', '{"customerId":"gid://shopify/Customer/1","tags":["a"]}', 'customer.tags_added', undefined],
    ['customers/data_request', '{"shop_id":954889,"orders_requested":[299938]}', 'customers.data_request', undefined],
    ['app/uninstalled', '{"id":548380009,"name":"Super Toys"}', 'app.uninstalled', '548380009'],
  ])('%s', async (topic, body, type, subject) => {
    const { status, events } = await sent(body, { 'x-shopify-topic': topic })
    expect([status, events[0]?.type, events[0]?.subject]).toEqual([202, `com.shopify.${type}`, subject])
  })

  test('two deliveries that follow from one action are two events', async () => {
    const { send, events } = source()
    for (const [topic, id] of [
      ['orders/create', 'b54557e4-bdd9-4b37-8a5f-bf7d70bcd043'],
      ['orders/paid', '5ac3cc3c-1b73-4b4f-9d9e-0c4a4f9f7c11'],
    ] as const)
      await send('shop', ORDER, {
        ...DELIVERY,
        'x-shopify-topic': topic,
        'x-shopify-webhook-id': id,
        ...sign(ORDER, SECRET),
      })
    expect(new Set(events().map(({ id }) => id)).size).toBe(2)
  })

  test.each(['x-shopify-topic', 'x-shopify-webhook-id'])('without %s, or with two, it is refused', async (name) => {
    for (const [value, status] of [
      ['', 422],
      ['a, b', 422],
      ['a b', 422],
      ['a'.repeat(20_000), 431],
    ] as const)
      expect(await sent(ORDER, { [name]: value })).toEqual({ status, events: [] })
  })

  test('two signatures are refused', async () => {
    const { send, events } = source()
    const signature = sign(ORDER, SECRET)['x-shopify-hmac-sha256']
    const headers = { ...DELIVERY, 'x-shopify-hmac-sha256': `${signature}, ${signature}` }
    expect([(await send('shop', ORDER, headers)).status, events()]).toEqual([401, []])
  })

  test.each([
    ['nothing', 400, ''],
    ['no JSON', 400, '{"id":1'],
    ['XML', 400, '<order/>'],
    ['a zero byte', 400, '\u0000'],
    ['too deep', 413, '['.repeat(500)],
  ])('%s is refused', async (_, status, body) => {
    expect(await sent(body)).toEqual({ status, events: [] })
  })

  test('a shop and a time that are none, and fields of other types, are left out', async () => {
    const { status, events } = await sent('{"id":{"a":1},"admin_graphql_api_id":[]}', {
      'x-shopify-shop-domain': 'a, b',
      'x-shopify-triggered-at': 'yesterday',
    })
    expect(status).toBe(202)
    expect(events).toMatchObject([{ source: 'urn:kafkatrace:source:shop', key: null }])
    expect(events[0]).not.toContainAnyKeys(['subject', 'time'])
  })
})
