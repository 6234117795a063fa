/**
 * A copy of the records that every node needs to judge certificates and callers: roots, issuers, revocations and callers' tokens. A node with the
 * control store watches them there. Every other node follows an issuer, as SPIRE's agents follow its server.
 */
import type { Revocations } from "../../lib/certificates/revocations.ts";
import {
  CREDENTIALS,
  type CredentialRecord,
  decodeCredential,
  decodeIssuer,
  decodeRevocation,
  decodeRoot,
  ISSUERS,
  type IssuerRecord,
  REVOCATIONS,
  ROOTS,
  TRUST,
} from "./records.ts";

/** A change of a record. `value` is undefined if the record was removed. */
export interface TrustChange {
  readonly key: string;
  readonly value: Uint8Array | undefined;
}

/** Maximum size of a copy, and of changes that wait to be applied, with the memory that each record needs. An issuer can be stolen. */
export const MAX_TRUST_BYTES = 1 << 25;

const RECORD_OVERHEAD_BYTES = 512;

/** Throws a `RangeError` for changes with more than `maxBytes`. */
export function checkSize(changes: readonly TrustChange[], maxBytes = MAX_TRUST_BYTES): void {
  const sizeBytes = changes.reduce((sum, { key, value }) => sum + RECORD_OVERHEAD_BYTES + key.length + (value?.length ?? 0), 0);
  if (sizeBytes > maxBytes) throw new RangeError(`the records of the issuer have more than ${maxBytes} bytes`);
}

/** A caller's token, by its accessor id. */
export interface ListedCredential {
  readonly accessor: string;
  readonly record: CredentialRecord;
}

export class TrustCopy {
  readonly clusterId: string;
  #records: ReadonlyMap<string, Uint8Array> = new Map();
  readonly #prefix: string;
  #revocations: Revocations = { names: new Map(), issuers: new Set() };
  #roots: readonly (readonly [digest: string, certificate: string])[] = [];
  #issuers: readonly IssuerRecord[] = [];
  #credentials: readonly ListedCredential[] = [];

  /** The copy has the records whose keys start with `prefix`. Of another cluster, only `REVOCATIONS` are needed. */
  constructor(clusterId: string, prefix: typeof REVOCATIONS | typeof TRUST = TRUST) {
    this.clusterId = clusterId;
    this.#prefix = prefix;
  }

  /** Applies changes. With `isReset`, they are all records. Throws a `RangeError`, and changes nothing, if the copy would become too large. */
  apply(changes: readonly TrustChange[], isReset = false): void {
    const next = new Map(isReset ? [] : this.#records);
    for (const { key, value } of changes) {
      if (value === undefined) next.delete(key);
      else if (key.startsWith(this.#prefix)) next.set(key, value);
    }
    const maxBytes = this.#prefix === TRUST ? MAX_TRUST_BYTES : MAX_TRUST_BYTES / 4;
    checkSize(
      [...next].map(([key, value]) => ({ key, value })),
      maxBytes,
    );
    this.#records = next;
    this.#revocations = this.#readRevocations();
    this.#roots = this.#all(ROOTS).map(([digest, value]) => [digest, decodeRoot(value)?.certificate ?? ""]);
    this.#issuers = this.#all(ISSUERS).flatMap(([key, value]) => {
      const record = this.#revocations.issuers.has(`${this.clusterId}/${key}`) ? undefined : decodeIssuer(value);
      return record === undefined ? [] : [record];
    });
    this.#credentials = this.#all(CREDENTIALS).flatMap(([accessor, value]) => {
      const record = decodeCredential(value);
      return record === undefined ? [] : [{ accessor, record }];
    });
  }

  /** All records, by key. */
  get records(): ReadonlyMap<string, Uint8Array> {
    return this.#records;
  }

  get revocations(): Revocations {
    return this.#revocations;
  }

  /** The accepted roots in PEM. */
  get roots(): string {
    return this.#roots.map(([, certificate]) => certificate).join("");
  }

  /** The ids of the accepted roots. */
  get rootIds(): readonly string[] {
    return this.#roots.map(([digest]) => digest.slice(0, 16));
  }

  get issuers(): readonly IssuerRecord[] {
    return this.#issuers;
  }

  get credentials(): readonly ListedCredential[] {
    return this.#credentials;
  }

  /** The records with this prefix, with the rest of their keys. */
  #all(prefix: string): readonly (readonly [string, Uint8Array])[] {
    return [...this.#records].filter(([key]) => key.startsWith(prefix)).map(([key, value]) => [key.slice(prefix.length), value]);
  }

  #readRevocations(): Revocations {
    const names = new Map<string, number>();
    const issuers = new Set<string>();
    for (const [key, value] of this.#all(REVOCATIONS)) {
      const [kind = "", ...rest] = key.split("/");
      const record = decodeRevocation(value);
      // An issuer has a word only about its own cluster.
      const subject = `${this.clusterId}/${rest.join("/")}`;
      if (kind === "issuer") issuers.add(subject);
      // A revocation that cannot be read counts for all certificates of the name.
      else names.set(subject, record?.beforeWallMs ?? Number.POSITIVE_INFINITY);
    }
    return { names, issuers };
  }
}
