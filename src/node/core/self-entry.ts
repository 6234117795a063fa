/** What a node publishes of itself: its NODE entry, which nobody else may write, and at an interval how busy it is. */
import type { StampedEntry } from "../../catalog/entry/codec.ts";
import type { LoadView } from "../../catalog/entry/view.ts";
import type { KeyText } from "../../catalog/record/record.ts";
import type { Registrar } from "../../discovery/registrar/registrar.ts";
import { rethrowBroken } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import type { Caller } from "../../policy/identity/caller.ts";

/** Time between two reports. Other nodes hear of one only when its band changes. */
const REFRESH_MS = 30_000;
/** Time before the first report, because the load of a start says nothing. */
const FIRST_MS = 5000;

export interface OwnEntry {
  readonly caller: Caller;
  readonly stampAt: (time: Time) => StampedEntry;
}

export class SelfEntry {
  readonly #registrar: Pick<Registrar, "register" | "renew">;
  #entry: OwnEntry | undefined;
  /** Undefined while the entry could not be registered. It is then tried again with the load. */
  #key: KeyText | undefined;
  #nextMonoMs = Number.POSITIVE_INFINITY;

  constructor(registrar: Pick<Registrar, "register" | "renew">) {
    this.#registrar = registrar;
  }

  /** Registers the entry. Returns the error when it could not, as with a clock that is off. */
  publish(entry: OwnEntry, time: Time): unknown {
    this.#entry = entry;
    this.#nextMonoMs = time.monoMs + FIRST_MS;
    return this.#trying(() => this.#register(entry, time));
  }

  /** Whether the load is to be measured now. `measured` answers it. */
  isDue({ monoMs }: Time): boolean {
    if (monoMs < this.#nextMonoMs) return false;
    this.#nextMonoMs = monoMs + REFRESH_MS;
    return true;
  }

  /** Reports the load. Returns the error when it could not. */
  measured(load: LoadView, time: Time): unknown {
    const entry = this.#entry;
    if (entry === undefined) return undefined;
    return this.#trying(() => {
      const key = this.#key ?? this.#register(entry, time);
      this.#registrar.renew(entry.caller, [], [{ key, path: "load", health: undefined, load }], time);
    });
  }

  /** The node drains, and reports nothing any more. */
  end(): void {
    this.#entry = undefined;
    this.#nextMonoMs = Number.POSITIVE_INFINITY;
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

  #trying(work: () => void): unknown {
    try {
      work();
      return undefined;
    } catch (error) {
      rethrowBroken(error);
      return error;
    }
  }
}
