/**
 * Counts the answers that lack what policy hides. They are told to metrics and audit later, all together, because to tell each took longer than to answer it, and a stranger
 * could see by the time that something is hidden (semantics.md, DNS).
 */
import { NEVER, type Time } from "../../lib/machine.ts";
import type { Caller } from "../../policy/identity/caller.ts";

/** Least time between two times that they are told. */
const SPACING_MS = 1000;
/** Lists that are counted apart. Beyond so many, answers count as the last one that was counted apart: strangers make up any number of names. */
const MAX_COUNTED = 1024;

/** Answers to one caller that lack the same namespaces. */
export interface HiddenAnswer {
  readonly caller: Caller;
  readonly namespaces: readonly string[];
  /** Of the last that asked. */
  address: string;
  count: number;
}

export class HiddenAnswers {
  readonly #tell: (answers: HiddenAnswer) => void;
  /** By the list, which is the same one as long as the answer is kept. */
  readonly #byList = new Map<readonly string[], HiddenAnswer>();
  #counted: HiddenAnswer[] = [];
  #toldMonoMs = Number.NEGATIVE_INFINITY;

  constructor(tell: (answers: HiddenAnswer) => void) {
    this.#tell = tell;
  }

  /** HOT: once an answer that lacks something. */
  note(caller: Caller, address: string, namespaces: readonly string[]): void {
    let counted = this.#byList.get(namespaces);
    if (counted === undefined || (counted.caller !== caller && counted.caller.principal !== caller.principal))
      counted = this.#begin(caller, namespaces);
    counted.address = address;
    counted.count += 1;
  }

  /** Tells what was counted, if it is time. */
  tick(time: Time): void {
    if (time.monoMs >= this.nextDeadlineMs()) this.tellAll(time);
  }

  tellAll(time: Time): void {
    if (this.#counted.length === 0) return;
    const counted = this.#counted;
    this.#counted = [];
    this.#byList.clear();
    this.#toldMonoMs = time.monoMs;
    for (const answers of counted) this.#tell(answers);
  }

  nextDeadlineMs(): number {
    return this.#counted.length === 0 ? NEVER : this.#toldMonoMs + SPACING_MS;
  }

  #begin(caller: Caller, namespaces: readonly string[]): HiddenAnswer {
    const last = this.#counted.at(-1);
    if (last !== undefined && this.#counted.length === MAX_COUNTED) return last;
    const begun = { caller, namespaces, address: "", count: 0 };
    this.#counted.push(begun);
    this.#byList.set(namespaces, begun);
    return begun;
  }
}
