/** The handler of `drain-waits`. */
import { defineHandler, Type } from 'kafkatrace'

/** As for another service. */
export const HANDLER_WAIT_MS = 50

export const handlers = [
  defineHandler({
    type: 'shop.order.placed',
    version: '1',
    schema: Type.Object({}),
    async handle(order) {
      await Bun.sleep(HANDLER_WAIT_MS)
      return { type: 'shop.order.priced', data: order }
    },
  }),
]
