/**
 * Work on the policy that has to wait for the store, for the audit log or for watches. A machine runs the work: it sends orders to the store and
 * receives the results as inputs. Node and simulator can therefore run the same code, each with its own store. Inside the machine, each task is a
 * generator that yields requests and continues with their results.
 */
import { assert } from "../lib/errors.ts";
import { type Machine, NEVER, type Time } from "../lib/machine.ts";

export type StoreRequest =
  | { readonly kind: "get"; readonly key: string }
  | { readonly kind: "list"; readonly prefix: string; readonly after: string }
  /** Puts or removes the value if the item has the expected version. Version 0 means that there is no item. */
  | { readonly kind: "swap"; readonly key: string; readonly expectedVersion: number; readonly value: Uint8Array | undefined }
  /** Puts a version into the control store that the nodes share, if there is one, and it has no version with this number or a higher one. */
  | { readonly kind: "publish"; readonly bytes: Uint8Array };

/** A condition or a store operation that a task waits for. */
export type TaskRequest =
  | StoreRequest
  /** Waits until all audit records so far are on disk. */
  | { readonly kind: "audited" }
  /** Sent when the policy in force may have changed. Waits until every listener uses the new policy. */
  | { readonly kind: "shown" }
  /** Waits until the previous change is complete and watches have been notified of that change. */
  | { readonly kind: "heard" };

type Condition = Exclude<TaskRequest, StoreRequest>["kind"];

export interface StoredItem {
  readonly version: number;
  readonly value: Uint8Array;
}

export interface StoredPage {
  readonly items: readonly { readonly key: string; readonly value: Uint8Array }[];
  /** The next page starts after this key. Undefined on the last page. */
  readonly nextAfter: string | undefined;
}

/** The answer to a request. If it is an error, the error is thrown into the task. */
export type TaskAnswer =
  | { readonly kind: "item"; readonly item: StoredItem | undefined }
  | { readonly kind: "page"; readonly page: StoredPage }
  | { readonly kind: "swapped"; readonly isSwapped: boolean }
  | { readonly kind: "over" }
  | { readonly kind: "failed"; readonly error: unknown };

export type TaskAsk =
  | TaskRequest
  /** Requests the current time. */
  | { readonly kind: "time" }
  /**
   * Waits until no other task holds the lock, and then holds the lock until `turnOver`. Tasks get the lock in the order of their requests. A task
   * that already holds the lock may request it again, and must then release it the same number of times.
   */
  | { readonly kind: "turn" }
  | { readonly kind: "turnOver" };

/** Work that can be suspended. A `yield` without a value lets the event loop run other work. */
export type PolicyTask<T> = Generator<TaskAsk | void, T, TaskReply>;
type TaskReply = TaskAnswer | { readonly kind: "time"; readonly time: Time };

export function* getItem(key: string): PolicyTask<StoredItem | undefined> {
  const answer = yield { kind: "get", key };
  assert(answer.kind === "item", "the answer to a get request is not an item");
  return answer.item;
}

export function* page(prefix: string, after: string): PolicyTask<StoredPage> {
  const answer = yield { kind: "list", prefix, after };
  assert(answer.kind === "page", "the answer to a list request is not a page");
  return answer.page;
}

/** Returns whether the item had the expected version and now has the new value. */
export function* swap(key: string, expectedVersion: number, value: Uint8Array | undefined): PolicyTask<boolean> {
  const answer = yield { kind: "swap", key, expectedVersion, value };
  assert(answer.kind === "swapped", "the answer to a swap request is not a swap result");
  return answer.isSwapped;
}

/** Returns whether the store that the nodes share has this version now. True if there is no such store. */
export function* publish(bytes: Uint8Array): PolicyTask<boolean> {
  const answer = yield { kind: "publish", bytes };
  assert(answer.kind === "swapped", "the answer to a publish request is not a swap result");
  return answer.isSwapped;
}

export function* time(): PolicyTask<Time> {
  const answer = yield { kind: "time" };
  assert(answer.kind === "time", "the answer to a time request is not a time");
  return answer.time;
}

/** Runs the work exclusively: it starts when all exclusive work requested earlier has ended, and watches have been notified of the last change. */
export function* alone<T>(work: () => PolicyTask<T>): PolicyTask<T> {
  yield { kind: "turn" };
  try {
    yield { kind: "heard" };
    return yield* work();
  } finally {
    yield { kind: "turnOver" };
  }
}

/** Number of a request whose answer is pending, starting at 1. */
export type RequestId = number;

/** The result of a task. */
export type TaskResult = { readonly result: unknown } | { readonly error: unknown };

export type TaskInput =
  /** Runs the task up to its first request or pause. `ended` is called once, possibly in a later turn of the event loop. */
  | { readonly kind: "begin"; readonly work: PolicyTask<unknown>; readonly ended: (ended: TaskResult) => void }
  /** The answer to an order. */
  | { readonly kind: "answered"; readonly ask: RequestId; readonly answer: TaskAnswer }
  /** Continues one of the paused tasks. */
  | { readonly kind: "tick" };

/** Each order is answered once, by calling `answered` with its number. */
export type TaskOrder =
  | { readonly kind: "store"; readonly ask: RequestId; readonly request: StoreRequest }
  | { readonly kind: "wait"; readonly ask: RequestId; readonly until: Condition };

interface RunningTask {
  readonly work: PolicyTask<unknown>;
  readonly ended: (ended: TaskResult) => void;
}

type Step = IteratorResult<TaskAsk | void, unknown>;

const OVER = { kind: "over" } as const;

/** Runs tasks concurrently: sends their orders to the store, and receives the answers as inputs. */
export class TaskMachine implements Machine<TaskInput, TaskOrder> {
  #lastAsk = 0;
  /** The waiting tasks, by the number of their request. */
  readonly #asking = new Map<RequestId, RunningTask>();
  /** The tasks that continue in later turns of the event loop, in this order. */
  readonly #paused: RunningTask[] = [];
  /** The task that holds the lock, how often it has acquired the lock, and the tasks that are waiting for the lock. */
  #alone: RunningTask | undefined;
  #depth = 0;
  readonly #queue: RunningTask[] = [];

  handle(input: TaskInput, now: Time, out: TaskOrder[]): void {
    switch (input.kind) {
      case "begin":
        return this.#go(input, () => input.work.next(OVER), now, out);
      case "answered":
        return this.#answered(input.ask, input.answer, now, out);
      case "tick": {
        const running = this.#paused.shift();
        if (running !== undefined) this.#go(running, () => running.work.next(OVER), now, out);
      }
    }
  }

  /** Returns 0 if a paused task must continue in the next turn of the event loop, or NEVER. */
  nextDeadlineMs(): number {
    return this.pausedCount > 0 ? 0 : NEVER;
  }

  /** Number of tasks that are waiting for a later turn. */
  get pausedCount(): number {
    return this.#paused.length;
  }

  /** Whether no task is running or waiting. */
  get isAtRest(): boolean {
    return this.#asking.size === 0 && this.#paused.length === 0 && this.#queue.length === 0;
  }

  #answered(ask: RequestId, answer: TaskAnswer, now: Time, out: TaskOrder[]): void {
    const running = this.#asking.get(ask);
    assert(running !== undefined, "the answered request is not pending");
    this.#asking.delete(ask);
    const { work } = running;
    this.#go(running, () => (answer.kind === "failed" ? work.throw(answer.error) : work.next(answer)), now, out);
  }

  #go(running: RunningTask, first: () => Step, now: Time, out: TaskOrder[]): void {
    let next = first;
    for (;;) {
      let step: Step;
      try {
        step = next();
      } catch (error) {
        running.ended({ error });
        return;
      }
      if (step.done === true) {
        running.ended({ result: step.value });
        return;
      }
      const reply = this.#reply(running, step.value, now, out);
      if (reply === undefined) return;
      next = () => running.work.next(reply);
    }
  }

  /** Returns the answer if it is available immediately. Undefined if the task must wait for it. */
  #reply(running: RunningTask, ask: TaskAsk | void, now: Time, out: TaskOrder[]): TaskReply | undefined {
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
      case "publish":
        out.push({ kind: "store", ask: this.#ask(running), request: ask });
        return undefined;
      case "audited":
      case "shown":
      case "heard":
        out.push({ kind: "wait", ask: this.#ask(running), until: ask.kind });
        return undefined;
    }
  }

  #ask(running: RunningTask): RequestId {
    this.#asking.set(++this.#lastAsk, running);
    return this.#lastAsk;
  }

  #takeTurn(running: RunningTask): boolean {
    if (this.#alone !== undefined && this.#alone !== running) {
      this.#queue.push(running);
      return false;
    }
    this.#alone = running;
    this.#depth += 1;
    return true;
  }

  /** Releases the lock. The next task runs in its own turn of the event loop. */
  #turnOver(running: RunningTask): void {
    assert(this.#alone === running, "the task released a lock that it does not hold");
    this.#depth -= 1;
    if (this.#depth > 0) return;
    this.#alone = this.#queue.shift();
    if (this.#alone === undefined) return;
    this.#depth = 1;
    this.#paused.push(this.#alone);
  }
}
