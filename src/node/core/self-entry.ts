/** What a node publishes of itself: its NODE entry, which nobody else may write, and at an interval how busy it is. */
import type { KeyText } from "../../catalog/record/record.ts";
import type { Registrar } from "../../discovery/registrar/registrar.ts";
import { rethrowInvariant } from "../../lib/errors.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { NodeHandlers, NodeOutput, NodePart, OwnEntry } from "../core-io.ts";

/** Time between two reports. Other nodes hear of one only when its band changes. */
const REFRESH_MS = 30_000;
/** Time before the first report, because the load of a start says nothing. */
const FIRST_MS = 5000;

export class SelfEntry implements NodePart {
  readonly #registrar: Pick<Registrar, "register" | "renew">;
  #entry: OwnEntry | undefined;
  /** Undefined while the entry could not be registered. It is then tried again with the load. */
  #key: KeyText | undefined;
  #nextMonoMs = NEVER;

  constructor(registrar: Pick<Registrar, "register" | "renew">) {
    this.#registrar = registrar;
  }

  readonly handle: NodeHandlers = {
    publish: ({ entry }, time, out) => {
      this.#entry = entry;
      this.#nextMonoMs = time.monoMs + FIRST_MS;
      this.#try(() => this.#register(entry, time), out);
    },
    load: ({ load }, time, out) => {
      const entry = this.#entry;
      if (entry === undefined) return;
      this.#try(() => {
        const key = this.#key ?? this.#register(entry, time);
        this.#registrar.renew(entry.caller, [], [{ key, path: "load", health: undefined, load }], time);
      }, out);
    },
  };

  look({ monoMs }: Time, out: NodeOutput[]): void {
    if (monoMs < this.#nextMonoMs) return;
    this.#nextMonoMs = monoMs + REFRESH_MS;
    out.push({ kind: "measureLoad" });
  }

  /** The node drains, and reports nothing any more. */
  drain(): void {
    this.#entry = undefined;
    this.#nextMonoMs = NEVER;
  }

  nextDeadlineMs(): number {
    return this.#nextMonoMs;
  }

  #register({ caller, stampAt }: OwnEntry, time: Time): KeyText {
    const stamped = stampAt(time);
    this.#registrar.register(
      caller,
      { stampedEntries: [stamped], ttlMs: undefined, leaseId: "", idempotencyKey: "", isStatic: true },
      time,
    );
    this.#key = stamped.key;
    return stamped.key;
  }

  /** A refusal, such as that of a clock that is off, is reported. */
  #try(work: () => void, out: NodeOutput[]): void {
    try {
      work();
    } catch (error) {
      rethrowInvariant(error);
      out.push({ kind: "selfRefused", error });
    }
  }
}
