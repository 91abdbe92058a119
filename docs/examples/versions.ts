/** A handler of events of three versions of their schema. Run it with `bun run dev --handlers docs/examples/versions.ts`. */
import { defineHandler, jsonSchema, Type } from 'kafkatrace'

interface Order {
  items: { name: string; cents: number }[]
}

/** Version 3, as it is in SCHEMAS_DIR or the registry. */
const order = {
  type: 'object',
  required: ['items'],
  properties: {
    items: {
      type: 'array',
      items: {
        type: 'object',
        required: ['name', 'cents'],
        properties: { name: { type: 'string' }, cents: { type: 'integer' } },
      },
    },
  },
}

/** Version 1 had a price in euros, and one item. */
interface OrderV1 {
  item: string
  euros: number
}

interface OrderV2 {
  item: string
  cents: number
}

export const handlers = [
  defineHandler({
    type: 'order.placed',
    version: '1',
    schema: jsonSchema<Order>(order),
    takes: 3,
    upcasters: [
      {
        from: 1,
        to: 2,
        schema: Type.Object({ item: Type.String(), cents: Type.Integer() }),
        up: ({ item, euros }: OrderV1): OrderV2 => ({ item, cents: Math.round(euros * 100) }),
      },
      { from: 2, to: 3, up: ({ item, cents }: OrderV2): Order => ({ items: [{ name: item, cents }] }) },
    ],
    result: Type.Object({ cents: Type.Integer() }),
    handle({ items }) {
      return { type: 'order.totalled', data: { cents: items.reduce((sum, { cents }) => sum + cents, 0) } }
    },
  }),
]
