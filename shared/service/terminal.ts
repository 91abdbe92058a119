/** What a terminal can show. */

export const isTerminal = (stream: { readonly isTTY?: boolean | undefined } = process.stderr): boolean =>
  stream.isTTY === true && process.env.TERM !== 'dumb'

const colours = { green: 32, red: 31, yellow: 33, bold: 1, dim: 2 } as const

/** Colours text on a terminal, unless NO_COLOR is set (https://no-color.org). */
export function paint(colour: keyof typeof colours, text: string): string {
  if (!isTerminal(process.stdout) || process.env.NO_COLOR) return text
  return `\x1b[${colours[colour]}m${text}\x1b[0m`
}
