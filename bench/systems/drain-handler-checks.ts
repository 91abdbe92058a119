/** The handler of `drain-handler`. Like the peers', it validates the order against a schema, and answers with a changed object. */
import { defineHandler, Type } from 'kafkatrace'

const Order = Type.Object({
  order: Type.Integer({ minimum: 1 }),
  total: Type.Number({ minimum: 0 }),
  currency: Type.String({ minLength: 3, maxLength: 3 }),
  express: Type.Boolean(),
  items: Type.Array(
    Type.Object({
      sku: Type.String({ minLength: 1 }),
      quantity: Type.Integer({ minimum: 1 }),
      title: Type.String(),
    }),
  ),
  note: Type.String(),
})

export const handlers = [
  defineHandler({
    type: 'shop.order.placed',
    version: '1',
    schema: Order,
    handle: (order) => ({ type: 'shop.order.priced', data: { ...order, total: order.total * 1.19, priced: true } }),
  }),
]
