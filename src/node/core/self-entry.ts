/** Publishes this node's NODE entry, which only this node may write, and publishes its load at an interval. */
import type { KeyText } from "../../catalog/record/record.ts";
import type { Registrar } from "../../discovery/registrar/registrar.ts";
import { rethrowInvariant } from "../../lib/errors.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { NodeHandlers, NodeOutput, NodePart, OwnEntry, SelfState } from "../core-io.ts";

/** Time between two load reports, in ms. Other nodes receive a report only when its health level changes. */
const REFRESH_MS = 30_000;
/** Time before another try, in ms, after the disk refused a batch. */
const RETRY_MS = 1000;
/** Time before the first report, in ms, because the load during startup is not representative. */
const FIRST_MS = 5000;

export class SelfEntry implements NodePart {
  readonly #registrar: Pick<Registrar, "register" | "renew" | "unregisterKeys">;
  #entry: OwnEntry | undefined;
  #state: SelfState = { isInMaintenance: false, isHidden: false, labels: {} };
  /** Undefined unless the entry is registered. A failed registration is retried with the next load report. */
  #key: KeyText | undefined;
  #nextMonoMs = NEVER;

  constructor(registrar: Pick<Registrar, "register" | "renew" | "unregisterKeys">) {
    this.#registrar = registrar;
  }

  /** The URLs in the entry, also while it is hidden. */
  get urls(): readonly string[] {
    return this.#entry?.urls ?? [];
  }

  readonly handle: NodeHandlers = {
    publish: ({ entry }, time, out) => {
      this.#entry = entry;
      this.#nextMonoMs = time.monoMs + FIRST_MS;
      this.#try(() => this.#register(entry, time), out);
    },
    load: ({ load }, time, out) => {
      const entry = this.#entry;
      if (entry === undefined || this.#state.isHidden) return;
      this.#try(() => {
        const key = this.#key ?? this.#register(entry, time);
        this.#registrar.renew(entry.caller, [], [{ key, path: "load", health: undefined, load }], time);
      }, out);
    },
    // The refused batch is undone. It can have contained the entry.
    notPersisted: (_, { monoMs }) => {
      if (this.#entry === undefined || this.#state.isHidden) return;
      this.#key = undefined;
      this.#nextMonoMs = Math.min(this.#nextMonoMs, monoMs + RETRY_MS);
    },
  };

  /** Changes the entry. A failed change is retried with the next load report. A call that hides the entry can be repeated. */
  follow(state: SelfState, time: Time, out: NodeOutput[]): void {
    this.#state = state;
    const entry = this.#entry;
    const key = this.#key;
    if (entry === undefined) return;
    if (!state.isHidden) this.#key = undefined;
    this.#try(() => {
      if (!state.isHidden) this.#register(entry, time);
      else if (key !== undefined) this.#registrar.unregisterKeys(entry.caller, [key], time);
    }, out);
  }

  look({ monoMs }: Time, out: NodeOutput[]): void {
    if (monoMs < this.#nextMonoMs) return;
    this.#nextMonoMs = monoMs + REFRESH_MS;
    out.push({ kind: "measureLoad" });
  }

  /** Stops reporting, because the node is draining. */
  drain(): void {
    this.#entry = undefined;
    this.#nextMonoMs = NEVER;
  }

  nextDeadlineMs(): number {
    return this.#nextMonoMs;
  }

  #register({ caller, stampAt }: OwnEntry, time: Time): KeyText {
    const stamped = stampAt(time, this.#state);
    this.#registrar.register(
      caller,
      { stampedEntries: [stamped], ttlMs: undefined, leaseId: "", idempotencyKey: "", isStatic: true },
      time,
    );
    this.#key = stamped.key;
    return stamped.key;
  }

  /** Reports that the NODE entry was refused, for example because the clock is wrong. */
  #try(work: () => void, out: NodeOutput[]): void {
    try {
      work();
    } catch (error) {
      rethrowInvariant(error);
      out.push({ kind: "selfRefused", error });
    }
  }
}
