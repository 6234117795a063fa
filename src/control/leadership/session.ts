/**
 * The session of this process: a record that the process renews by compare-and-swap. All scopes of the process live as long as the session. The design
 * follows the sessions of Consul; client-go's `leaderelection` has the same rules for one scope.
 */
import { NEVER, type Time } from "../../lib/machine.ts";
import type { StoreWrite, TransactResult } from "../../store/control/store.ts";
import { encodeRecord, SESSIONS } from "./records.ts";

/** Time between two attempts after a failure. */
export const RETRY_MS = 200;
/** A session is renewed after this part of a lease. */
const RENEWAL = 1 / 3;
/**
 * A holder acts for this part of a lease after it sent its last successful renewal, or for this part of the time for which a program has the scope. The
 * rest is for clocks that run up to 4 % fast or slow.
 */
export const VALIDITY = 11 / 12;

export interface SessionOptions {
  readonly nodeId: string;
  /** Unique id of this process instance, so that no other process ever had a session of the same name. All ids have the same length. */
  readonly boot: string;
  readonly leaseMs: number;
  /** Whether the store belongs to this process alone, which its lock of the file guarantees. The session has no record then, and is always valid. */
  readonly isOwnStore: boolean;
}

export class Session {
  readonly #options: SessionOptions;
  #count = 1;
  /** Version of the record. 0 until the record is known to exist. */
  #version = 0;
  #validUntilMs = Number.NEGATIVE_INFINITY;
  #dueMs = Number.NEGATIVE_INFINITY;

  constructor(options: SessionOptions) {
    this.#options = options;
    if (options.isOwnStore) [this.#validUntilMs, this.#dueMs] = [NEVER, NEVER];
  }

  /**
   * The name of the session, below `sessions/`. Each name is created by one request only, so that a late request cannot revive a session. No name is a
   * prefix of another, so that a watch on one session reports no other.
   */
  get name(): string {
    return `${this.#options.nodeId}/${this.#count}-${this.#options.boot}`;
  }

  get version(): number {
    return this.#version;
  }

  /** Monotonic time (ms) until which this process may act for the scopes that it holds. */
  get validUntilMs(): number {
    return this.#validUntilMs;
  }

  /** Monotonic time (ms) of the next request. `NEVER` while an answer is pending. */
  get dueMs(): number {
    return this.#dueMs;
  }

  /** The change that creates or renews the session. Its condition is that the record has `version`. */
  renewal(wallMs: number): StoreWrite {
    this.#dueMs = NEVER;
    const { nodeId, leaseMs } = this.#options;
    return { key: SESSIONS + this.name, value: encodeRecord({ nodeId, leaseMs, renewedWallMs: wallMs }) };
  }

  /** Applies the answer to `renewal`, which was sent at `sentMs`. If the session has ended, the next one has a new name. */
  answered(result: TransactResult | undefined, sentMs: number, { monoMs }: Time): void {
    const { leaseMs } = this.#options;
    const version = result?.versions[0] ?? 0;
    if (result?.isCommitted === true) {
      this.#version = version;
      // The record can have changed as soon as the request was sent, and other nodes count from that change.
      this.#validUntilMs = sentMs + leaseMs * VALIDITY;
      this.#dueMs = sentMs + leaseMs * RENEWAL;
    } else if (this.#version === 0) this.startOver(monoMs + RETRY_MS);
    else if (result === undefined) this.#dueMs = monoMs + RETRY_MS;
    else {
      this.#dueMs = monoMs;
      this.found(version, monoMs);
    }
  }

  /** Applies the version that the record has in the store, which differs from `version`. Version 0 means that the session has ended. */
  found(version: number, monoMs: number): void {
    // Another node has ended the session, or this is another store, or one that was restored from a backup.
    if (version < this.#version) this.startOver(monoMs);
    // A renewal whose answer was lost has had its effect.
    else this.#version = version;
  }

  /** Gives the session up, and chooses a new name for the next one. */
  startOver(dueMs: number): void {
    this.#count += 1;
    this.#version = 0;
    this.#validUntilMs = Number.NEGATIVE_INFINITY;
    this.#dueMs = dueMs;
  }
}
