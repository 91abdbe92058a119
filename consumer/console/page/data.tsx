import { useMemo } from 'preact/hooks'
import { isContainer } from '../json.ts'
import type { Data as DataOf } from '../view.ts'
import { Copy } from './parts.tsx'
import { beginningOf, escaped } from './text.ts'

/** A record's data, always as text: nothing of it ever becomes markup. */

export function Data({ data, truncated = false }: { data: DataOf | undefined; truncated?: boolean }) {
  const text = useMemo(() => textOf(data), [data])
  const shown = useMemo(() => beginningOf(text), [text])
  const isCut = shown.length < text.length
  if (data === undefined) return <p class="hint">No data.</p>
  if (data.format === 'masked') return <p class="hint">{data.detail}</p>
  return (
    <figure class="data">
      <figcaption>
        {data.format}
        {(truncated || isCut) && ' · only the beginning is shown'}
        {isCut && !truncated && ', the copy is whole'}
        <Copy text={text} what="data" />
      </figcaption>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls, and has to with the keyboard, too */}
      <pre tabIndex={0} dir="ltr">
        {data.format === 'json' && !isCut ? <Json value={data.json} /> : shown}
      </pre>
    </figure>
  )
}

/** As it is copied and edited. */
export function textOf(data: DataOf | undefined): string {
  switch (data?.format) {
    case 'json':
      return escaped(JSON.stringify(data.json, null, 2))
    case 'text':
      return data.text
    case 'hex':
      return data.hex
    default:
      return ''
  }
}

/** More of a value is shown without colours: each coloured piece is an element. */
const MAX_COLOURED = 5_000

function Json({ value }: { value: unknown }) {
  const pieces: { kind: string; text: string }[] = []
  const put = (kind: string, text: string): void => void pieces.push({ kind, text })
  const walk = (one: unknown, indent: string): void => {
    if (pieces.length > MAX_COLOURED) return
    if (!isContainer(one)) {
      put(typeof one === 'string' ? 'string' : one === null ? 'null' : 'number', escaped(JSON.stringify(one) ?? 'null'))
      return
    }
    const isList = Array.isArray(one)
    const entries = Object.entries(one)
    const [begin, end] = isList ? '[]' : '{}'
    if (entries.length === 0) {
      put('', `${begin}${end}`)
      return
    }
    put('', `${begin}\n`)
    for (const [index, [name, child]] of entries.entries()) {
      put('', `${indent}  `)
      if (!isList) {
        put('name', escaped(JSON.stringify(name)))
        put('', ': ')
      }
      walk(child, `${indent}  `)
      put('', index < entries.length - 1 ? ',\n' : '\n')
    }
    put('', `${indent}${end}`)
  }
  walk(value, '')
  if (pieces.length > MAX_COLOURED) return <>{escaped(JSON.stringify(value, null, 2))}</>
  return (
    <>
      {pieces.map(({ kind, text }, index) =>
        // The pieces of a value never change.
        kind === '' ? (
          text
        ) : (
          <span key={index} class={kind}>
            {text}
          </span>
        ),
      )}
    </>
  )
}
