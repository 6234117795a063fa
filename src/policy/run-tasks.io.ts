/** Runs tasks in a process. Their requests are awaited, and their pauses are turns of the event loop. */
import type { Time } from "../lib/machine.ts";
import {
  type Answer,
  type AskId,
  type Request,
  type StoredItem,
  type StoredPage,
  type Task,
  type TaskId,
  type TaskOrder,
  Tasks,
} from "./task.ts";

export interface TaskPorts {
  /** The methods of `Store` that tasks use. This room may not import the room store. */
  readonly store: {
    get(key: string): Promise<StoredItem | undefined>;
    list(prefix: string, page: { readonly after: string }): Promise<StoredPage>;
    compareAndSwap(key: string, expectedVersion: number, value: Uint8Array | undefined): Promise<{ readonly isSwapped: boolean }>;
  };
  readonly now: () => Time;
  /** Resolves in a later turn of the event loop. */
  readonly pause: () => Promise<void>;
  readonly audited: () => Promise<void>;
  readonly shown: () => Promise<void>;
  readonly heard: () => Promise<void>;
}

interface Caller {
  resolve(result: unknown): void;
  reject(error: unknown): void;
}

export class TaskRunner {
  readonly #ports: TaskPorts;
  readonly #tasks = new Tasks();
  readonly #orders: TaskOrder[] = [];
  readonly #callers = new Map<TaskId, Caller>();
  #isPausing = false;

  constructor(ports: TaskPorts) {
    this.#ports = ports;
  }

  /** Begins the task before it returns. */
  run<T>(task: Task<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#callers.set(this.#tasks.begin(task, this.#ports.now(), this.#orders), { resolve, reject });
      this.#carryOut();
    });
  }

  #carryOut(): void {
    for (const order of this.#orders.splice(0)) this.#obey(order);
    if (this.#isPausing || !this.#tasks.hasPaused) return;
    this.#isPausing = true;
    void this.#goOn();
  }

  async #goOn(): Promise<void> {
    await this.#ports.pause();
    this.#isPausing = false;
    this.#tasks.resume(1, this.#ports.now(), this.#orders);
    this.#carryOut();
  }

  #obey(order: TaskOrder): void {
    switch (order.kind) {
      case "ask":
        void this.#ask(order.ask, order.request);
        return;
      case "done":
        this.#callers.get(order.task)?.resolve(order.result);
        this.#callers.delete(order.task);
        return;
      case "failed":
        this.#callers.get(order.task)?.reject(order.error);
        this.#callers.delete(order.task);
    }
  }

  async #ask(ask: AskId, request: Request): Promise<void> {
    const answer = await this.#answerTo(request).catch((error: unknown): Answer => ({ kind: "failed", error }));
    this.#tasks.answered(ask, answer, this.#ports.now(), this.#orders);
    this.#carryOut();
  }

  async #answerTo(request: Request): Promise<Answer> {
    const { store } = this.#ports;
    switch (request.kind) {
      case "get":
        return { kind: "item", item: await store.get(request.key) };
      case "list":
        return { kind: "page", page: await store.list(request.prefix, { after: request.after }) };
      case "swap":
        return { kind: "swapped", isSwapped: (await store.compareAndSwap(request.key, request.expectedVersion, request.value)).isSwapped };
      case "audited":
      case "shown":
      case "heard":
        await this.#ports[request.kind]();
        return { kind: "over" };
    }
  }
}
