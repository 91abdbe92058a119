/** Numbers as the decimals that they are written as, since in binary 19.99 is no multiple of 0.01. */

/** Whether a number is a multiple of another. */
export function isMultiple(value: number, of: number): boolean {
  if (Number.isSafeInteger(value) && Number.isSafeInteger(of)) return value % of === 0
  const [one, other] = [decimalOf(value), decimalOf(of)]
  const least = Math.min(one.exponent, other.exponent)
  const scaled = ({ digits, exponent }: Decimal): bigint => digits * 10n ** BigInt(exponent - least)
  return scaled(one) % scaled(other) === 0n
}

interface Decimal {
  digits: bigint
  exponent: number
}

function decimalOf(value: number): Decimal {
  const [mantissa = '0', exponent = '0'] = value.toExponential().split('e')
  const [whole = '', fraction = ''] = mantissa.split('.')
  return { digits: BigInt(whole + fraction), exponent: Number(exponent) - fraction.length }
}
