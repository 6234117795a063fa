/**
 * Runs the policy task machine in a process: executes the machine's orders on the store, and continues paused tasks in later turns of the event loop.
 */
import { NEVER, type Time } from "../lib/machine.ts";
import {
  type PolicyTask,
  type StoredItem,
  type StoredPage,
  type StoreRequest,
  type TaskAnswer,
  type TaskInput,
  TaskMachine,
  type TaskOrder,
  type TaskResult,
} from "./task.ts";

export interface TaskPorts {
  /** The methods of `Store` that tasks use. `src/policy` must not import `src/store`. */
  readonly store: {
    get(key: string): Promise<StoredItem | undefined>;
    list(prefix: string, page: { readonly after: string }): Promise<StoredPage>;
    compareAndSwap(key: string, expectedVersion: number, value: Uint8Array | undefined): Promise<{ readonly isSwapped: boolean }>;
  };
  /** Carries out `publish`. Returns undefined if this node does not share a store with others. */
  readonly publish: (bytes: Uint8Array) => Promise<boolean> | undefined;
  readonly now: () => Time;
  /** Resolves in a later turn of the event loop. */
  readonly pause: () => Promise<void>;
  readonly audited: () => Promise<void>;
  readonly shown: () => Promise<void>;
  readonly heard: () => Promise<void>;
}

export class TaskRunner {
  readonly #ports: TaskPorts;
  readonly #tasks = new TaskMachine();
  readonly #orders: TaskOrder[] = [];
  #isPausing = false;

  constructor(ports: TaskPorts) {
    this.#ports = ports;
  }

  /** Runs a task. The task starts before this function returns. */
  run<T>(work: PolicyTask<T>): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const ended = (how: TaskResult) => {
      if ("error" in how) reject(how.error);
      else resolve(how.result as T); // oxlint-disable-line typescript/no-unsafe-type-assertion -- the result of this task
    };
    this.#input({ kind: "begin", work, ended });
    return promise;
  }

  #input(input: TaskInput): void {
    this.#tasks.handle(input, this.#ports.now(), this.#orders);
    for (const order of this.#orders.splice(0)) void this.#carryOut(order);
    if (this.#isPausing || this.#tasks.nextDeadlineMs() === NEVER) return;
    this.#isPausing = true;
    void this.#pause();
  }

  async #pause(): Promise<void> {
    await this.#ports.pause();
    this.#isPausing = false;
    this.#input({ kind: "tick" });
  }

  async #carryOut(order: TaskOrder): Promise<void> {
    const answered =
      order.kind === "store" ? this.#answerTo(order.request) : this.#ports[order.until]().then(() => ({ kind: "over" }) as const);
    const answer = await answered.catch((error: unknown): TaskAnswer => ({ kind: "failed", error }));
    this.#input({ kind: "answered", ask: order.ask, answer });
  }

  async #answerTo(request: StoreRequest): Promise<TaskAnswer> {
    const { store, publish } = this.#ports;
    switch (request.kind) {
      case "get":
        return { kind: "item", item: await store.get(request.key) };
      case "list":
        return { kind: "page", page: await store.list(request.prefix, { after: request.after }) };
      case "swap":
        return { kind: "swapped", isSwapped: (await store.compareAndSwap(request.key, request.expectedVersion, request.value)).isSwapped };
      case "publish":
        return { kind: "swapped", isSwapped: (await publish(request.bytes)) ?? true };
    }
  }
}
