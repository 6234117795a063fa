/**
 * Work on the policy that has to wait for others: for the store, for the audit log, for watches. A task is a generator that asks and goes on with the
 * answer, so that node and simulator run the same code, each with its own disk.
 */
import { assert } from "../lib/errors.ts";
import type { Time } from "../lib/machine.ts";

/** What others have to do before a task can go on. */
export type Request =
  | { readonly kind: "get"; readonly key: string }
  | { readonly kind: "list"; readonly prefix: string; readonly after: string }
  /** Puts the value where the item's version is the expected one (0: where there is none), or removes it. */
  | { readonly kind: "swap"; readonly key: string; readonly expectedVersion: number; readonly value: Uint8Array | undefined }
  /** Until what was recorded for the audit is on disk. */
  | { readonly kind: "audited" }
  /** Another policy may be in force: until every listener shows it. */
  | { readonly kind: "shown" }
  /** Until the change before is through, and watches have heard of it. */
  | { readonly kind: "heard" };

export interface StoredItem {
  readonly version: number;
  readonly value: Uint8Array;
}

export interface StoredPage {
  readonly items: readonly { readonly key: string; readonly value: Uint8Array }[];
  /** Key to go on after; undefined on the last page. */
  readonly nextAfter: string | undefined;
}

/** What a request comes to. An error is thrown into the task. */
export type Answer =
  | { readonly kind: "item"; readonly item: StoredItem | undefined }
  | { readonly kind: "page"; readonly page: StoredPage }
  | { readonly kind: "swapped"; readonly isSwapped: boolean }
  | { readonly kind: "over" }
  | { readonly kind: "failed"; readonly error: unknown };

export type Ask =
  | Request
  /** The time of the turn that goes on with it. */
  | { readonly kind: "time" }
  /** To be the only one until `turnOver`, in the order of asking. Who is the only one already stays it, and says `turnOver` as often. */
  | { readonly kind: "turn" }
  | { readonly kind: "turnOver" };

/** Work that waits. A bare `yield` lets others have a turn of the event loop. */
export type Task<T> = Generator<Ask | void, T, Reply>;
type Reply = Answer | { readonly kind: "time"; readonly time: Time };

export function* getItem(key: string): Task<StoredItem | undefined> {
  const answer = yield { kind: "get", key };
  assert(answer.kind === "item", "a get is answered by an item");
  return answer.item;
}

export function* page(prefix: string, after: string): Task<StoredPage> {
  const answer = yield { kind: "list", prefix, after };
  assert(answer.kind === "page", "a list is answered by a page");
  return answer.page;
}

/** Whether the item had the expected version, and so has the value now. */
export function* swap(key: string, expectedVersion: number, value: Uint8Array | undefined): Task<boolean> {
  const answer = yield { kind: "swap", key, expectedVersion, value };
  assert(answer.kind === "swapped", "a swap is answered by what became of it");
  return answer.isSwapped;
}

export function* time(): Task<Time> {
  const answer = yield { kind: "time" };
  assert(answer.kind === "time", "who asks for the time is told it");
  return answer.time;
}

/** Does the work when what was begun before has ended, well or not, and watches have heard of it; nothing else of its kind is done meanwhile. */
export function* alone<T>(work: () => Task<T>): Task<T> {
  yield { kind: "turn" };
  try {
    yield { kind: "heard" };
    return yield* work();
  } finally {
    yield { kind: "turnOver" };
  }
}

/** A task under way, counted from 1. */
export type TaskId = number;
/** A request that is not answered yet, counted from 1. */
export type AskId = number;

export type TaskOrder =
  /** To be answered once, by `answered`. */
  | { readonly kind: "ask"; readonly ask: AskId; readonly request: Request }
  /** Once for each task. */
  | { readonly kind: "done"; readonly task: TaskId; readonly result: unknown }
  | { readonly kind: "failed"; readonly task: TaskId; readonly error: unknown };

interface Running {
  readonly id: TaskId;
  readonly work: Task<unknown>;
}

type Step = IteratorResult<Ask | void, unknown>;

const OVER = { kind: "over" } as const;

/** Tasks side by side. Sans-IO: orders go out, answers come in. */
export class Tasks {
  #lastTask = 0;
  #lastAsk = 0;
  /** By what they asked. */
  readonly #asking = new Map<AskId, Running>();
  /** They go on in a later turn, in this order. */
  readonly #paused: Running[] = [];
  /** The only one of those that may be alone, how often it asked for that, and who waits for it. */
  #alone: Running | undefined;
  #depth = 0;
  readonly #queue: Running[] = [];

  /** Runs the task up to its first request or pause. How it ends is told by an order, `done` or `failed`. */
  begin(work: Task<unknown>, now: Time, out: TaskOrder[]): TaskId {
    const running = { id: ++this.#lastTask, work };
    this.#go(running, () => work.next(OVER), now, out);
    return running.id;
  }

  /** What a request came to. */
  answered(ask: AskId, answer: Answer, now: Time, out: TaskOrder[]): void {
    const running = this.#asking.get(ask);
    assert(running !== undefined, "what was asked is answered once");
    this.#asking.delete(ask);
    const { work } = running;
    this.#go(running, () => (answer.kind === "failed" ? work.throw(answer.error) : work.next(answer)), now, out);
  }

  /** Goes on with at most so many of those that paused. */
  resume(maxCount: number, now: Time, out: TaskOrder[]): void {
    for (const running of this.#paused.splice(0, maxCount)) this.#go(running, () => running.work.next(OVER), now, out);
  }

  /** Whether any waits for a later turn. */
  get hasPaused(): boolean {
    return this.#paused.length > 0;
  }

  /** No task is under way. */
  get isAtRest(): boolean {
    return this.#asking.size === 0 && this.#paused.length === 0 && this.#queue.length === 0;
  }

  #go(running: Running, first: () => Step, now: Time, out: TaskOrder[]): void {
    let next = first;
    for (;;) {
      let step: Step;
      try {
        step = next();
      } catch (error) {
        out.push({ kind: "failed", task: running.id, error });
        return;
      }
      if (step.done === true) {
        out.push({ kind: "done", task: running.id, result: step.value });
        return;
      }
      const reply = this.#reply(running, step.value, now, out);
      if (reply === undefined) return;
      next = () => running.work.next(reply);
    }
  }

  /** What an ask is answered with at once; undefined when the task has to wait. */
  #reply(running: Running, ask: Ask | void, now: Time, out: TaskOrder[]): Reply | undefined {
    switch (ask?.kind) {
      case undefined:
        this.#paused.push(running);
        return undefined;
      case "time":
        return { kind: "time", time: now };
      case "turn":
        return this.#takeTurn(running) ? OVER : undefined;
      case "turnOver":
        this.#turnOver(running);
        return OVER;
      case "get":
      case "list":
      case "swap":
      case "audited":
      case "shown":
      case "heard":
        this.#asking.set(++this.#lastAsk, running);
        out.push({ kind: "ask", ask: this.#lastAsk, request: ask });
        return undefined;
    }
  }

  #takeTurn(running: Running): boolean {
    if (this.#alone !== undefined && this.#alone !== running) {
      this.#queue.push(running);
      return false;
    }
    this.#alone = running;
    this.#depth += 1;
    return true;
  }

  /** The next one goes on in a turn of the event loop of its own. */
  #turnOver(running: Running): void {
    assert(this.#alone === running, "who is alone says that it is no more");
    this.#depth -= 1;
    if (this.#depth > 0) return;
    this.#alone = this.#queue.shift();
    if (this.#alone === undefined) return;
    this.#depth = 1;
    this.#paused.push(this.#alone);
  }
}
