/** Parts of machines: each part declares which inputs it handles and when its next work is due, and a machine is a list of parts. */
import { NEVER, type Time } from "./machine.ts";

interface OfKind {
  readonly kind: string;
}

/** The handlers of a part, one for each kind of input that it handles. */
export type PartHandlers<In extends OfKind, Out> = {
  readonly [Kind in In["kind"]]?: (input: Extract<In, { readonly kind: Kind }>, time: Time, out: Out[]) => void;
};

/** All members are optional. Parts are called in the order in which they are listed. */
export interface MachinePart<In extends OfKind, Out> {
  readonly handle?: PartHandlers<In, Out>;
  /** Does the work that is due. Called after every input. */
  look?(time: Time, out: Out[]): void;
  /** Monotonic time (ms) at which `look` has work to do, or `NEVER` if it has none. */
  nextDeadlineMs?(): number;
  /** The machine starts, and may send from now on. */
  begin?(time: Time, out: Out[]): void;
  /** The machine stops accepting new work. */
  drain?(time: Time, out: Out[]): void;
  /** Postpones deadlines that apply to others by the time for which this process was blocked. */
  postpone?(byMs: number, time: Time): void;
}

type PartHandler<In, Out> = (input: In, time: Time, out: Out[]) => void;

/** The parts of a machine, in the order in which they run. */
export class MachineParts<In extends OfKind, Out extends OfKind> {
  #all: readonly MachinePart<In, Out>[] = [];
  /** The table is built once from the list, so that each input costs only one lookup. */
  readonly #handlers = new Map<string, PartHandler<In | Out, Out>[]>();
  #looks: readonly ((time: Time, out: Out[]) => void)[] = [];
  #deadlines: readonly (() => number)[] = [];
  #isBegun = false;

  /** Adds parts after the parts in the list. */
  add(parts: readonly MachinePart<In, Out>[]): void {
    this.#all = [...this.#all, ...parts];
    this.#looks = this.#all.flatMap((part) => part.look?.bind(part) ?? []);
    this.#deadlines = this.#all.flatMap((part) => part.nextDeadlineMs?.bind(part) ?? []);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a handler is called with inputs of its kind only
    const rows = parts.flatMap(({ handle = {} }) => Object.entries(handle) as [string, PartHandler<In | Out, Out>][]);
    for (const [kind, handler] of rows) this.#handlers.set(kind, [...(this.#handlers.get(kind) ?? []), handler]);
  }

  get isBegun(): boolean {
    return this.#isBegun;
  }

  /** The kinds of input that a part handles. */
  get kinds(): readonly string[] {
    return [...this.#handlers.keys()];
  }

  /** Passes an input of the machine to the parts that handle its kind, and then lets every part do the work that is due. */
  // HOT: runs for each frame.
  handle(input: In, time: Time, out: Out[]): void {
    for (const handler of this.#handlers.get(input.kind) ?? []) handler(input, time, out);
    this.look(time, out);
  }

  /**
   * Passes the output of a part to the parts that handle its kind. An output without a handler is a command, which the machine returns to its shell.
   */
  // HOT: runs for each frame.
  deliver(output: In | Out, time: Time, out: Out[]): void {
    const handlers = this.#handlers.get(output.kind);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- every kind of input has a handler, as a test of each machine checks
    if (handlers === undefined) out.push(output as Out);
    else for (const handler of handlers) handler(output, time, out);
  }

  // HOT: runs after every input.
  look(time: Time, out: Out[]): void {
    for (const look of this.#looks) look(time, out);
  }

  // HOT: runs after every input.
  nextDeadlineMs(): number {
    let next = NEVER;
    for (const deadline of this.#deadlines) {
      const dueMs = deadline();
      if (dueMs < next) next = dueMs;
    }
    return next;
  }

  begin(time: Time, out: Out[]): void {
    this.#isBegun = true;
    for (const part of this.#all) part.begin?.(time, out);
  }

  drain(time: Time, out: Out[]): void {
    for (const part of this.#all) part.drain?.(time, out);
  }

  postpone(byMs: number, time: Time): void {
    for (const part of this.#all) part.postpone?.(byMs, time);
  }
}
