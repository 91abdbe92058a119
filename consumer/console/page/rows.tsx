// biome-ignore-all lint/a11y/useSemanticElements: the elements of a table cannot leave rows out
// biome-ignore-all lint/a11y/useFocusableInteractive: the grid has the focus, and aria-activedescendant names the row
// biome-ignore-all lint/a11y/useKeyWithClickEvents: the grid handles keys
import type { ComponentChildren } from 'preact'
import { useEffect, useId, useLayoutEffect, useRef, useState } from 'preact/hooks'

/** A table of any length: only the rows that are seen are in the document. */

const ROW_PX = 34
/** Rows above and below of what is seen. */
const SPARE = 12

export interface Column<Row> {
  title: string
  /** A CSS width of the grid's track. */
  width: string
  cell(row: Row): ComponentChildren
}

export function Rows<Row>({
  label,
  columns,
  rows,
  keyOf,
  onOpen,
  opened,
}: {
  label: string
  columns: readonly Column<Row>[]
  rows: readonly Row[]
  keyOf(row: Row): string
  /** Called with a row that is chosen, by mouse or keyboard. */
  onOpen(row: Row): void
  /** The key of the row that is open. */
  opened?: string | undefined
}) {
  const box = useRef<HTMLDivElement>(null)
  const [seen, setSeen] = useState({ top: 0, height: 600 })
  const id = useId()
  const [atKey, setAtKey] = useState<string | undefined>()
  const known = atKey === undefined ? -1 : rows.findIndex((row) => keyOf(row) === atKey)
  const at = Math.max(0, known)
  const firstKey = rows[0] === undefined ? undefined : keyOf(rows[0])
  const firstBefore = useRef(firstKey)
  // Rows that come in above move nothing that is looked at.
  useLayoutEffect(() => {
    const element = box.current
    const { current: before } = firstBefore
    firstBefore.current = firstKey
    if (element === null || before === undefined || element.scrollTop === 0) return
    const added = rows.findIndex((row) => keyOf(row) === before)
    if (added > 0) element.scrollTop += added * ROW_PX
  }, [firstKey])
  useEffect(() => {
    const element = box.current
    if (element === null) return
    const measure = (): void => setSeen({ top: element.scrollTop, height: element.clientHeight })
    const observer = new ResizeObserver(measure)
    observer.observe(element)
    element.addEventListener('scroll', measure, { passive: true })
    return () => {
      observer.disconnect()
      element.removeEventListener('scroll', measure)
    }
  }, [])
  const first = Math.max(0, Math.floor(seen.top / ROW_PX) - SPARE)
  const last = Math.min(rows.length, Math.ceil((seen.top + seen.height) / ROW_PX) + SPARE)
  const tracks = columns.map(({ width }) => width).join(' ')
  const onKeyDown = (event: KeyboardEvent): void => {
    const page = Math.max(1, Math.floor(seen.height / ROW_PX) - 2)
    const steps: Record<string, number> = {
      ArrowDown: 1,
      ArrowUp: -1,
      PageDown: page,
      PageUp: -page,
      Home: -rows.length,
      End: rows.length,
    }
    const step = steps[event.key]
    const row = rows[at]
    if (event.key === 'Enter' && row !== undefined) onOpen(row)
    else if (step === undefined) return
    else {
      const next = Math.max(0, Math.min(rows.length - 1, at + step))
      const chosen = rows[next]
      setAtKey(chosen && keyOf(chosen))
      const top = next * ROW_PX
      const element = box.current
      if (element !== null && top < element.scrollTop) element.scrollTop = top
      // One row is covered by the head.
      else if (element !== null && top + 2 * ROW_PX > element.scrollTop + element.clientHeight)
        element.scrollTop = top + 2 * ROW_PX - element.clientHeight
    }
    event.preventDefault()
  }
  return (
    <div
      class="rows"
      ref={box}
      role="grid"
      aria-label={label}
      aria-rowcount={rows.length + 1}
      aria-colcount={columns.length}
      tabIndex={0}
      onKeyDown={onKeyDown}
      aria-activedescendant={rows.length > 0 && at >= first && at < last ? `${id}-${at}` : undefined}
    >
      <div class="row head" role="row" aria-rowindex={1} style={{ gridTemplateColumns: tracks }}>
        {columns.map(({ title }) => (
          <span key={title} role="columnheader">
            {title}
          </span>
        ))}
      </div>
      <div role="presentation" style={{ height: `${rows.length * ROW_PX}px`, position: 'relative' }}>
        {rows.slice(first, last).map((row, place) => {
          const index = first + place
          const key = keyOf(row)
          return (
            <div
              key={key}
              id={`${id}-${index}`}
              class={`row${index === at ? ' at' : ''}`}
              role="row"
              tabIndex={-1}
              aria-rowindex={index + 2}
              aria-selected={key === opened}
              style={{ gridTemplateColumns: tracks, transform: `translateY(${index * ROW_PX}px)` }}
              onClick={() => {
                setAtKey(key)
                onOpen(row)
              }}
            >
              {columns.map(({ title, cell }) => (
                <span key={title} role="gridcell">
                  {cell(row)}
                </span>
              ))}
            </div>
          )
        })}
      </div>
    </div>
  )
}
