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

/** A caller's token, by its accessor id. */
export interface ListedCredential {
  readonly accessor: string;
  readonly record: CredentialRecord;
}

export class TrustCopy {
  readonly clusterId: string;
  readonly #records = new Map<string, Uint8Array>();
  #revocations: Revocations = { names: new Map(), issuers: new Set() };
  #roots: readonly (readonly [digest: string, certificate: string])[] = [];
  #issuers: readonly IssuerRecord[] = [];
  #credentials: readonly ListedCredential[] = [];

  constructor(clusterId: string) {
    this.clusterId = clusterId;
  }

  /** Applies changes. With `isReset`, they are all records. Keys of other records are ignored. */
  apply(changes: readonly TrustChange[], isReset = false): void {
    if (isReset) this.#records.clear();
    for (const { key, value } of changes) {
      if (value === undefined) this.#records.delete(key);
      else if (key.startsWith(TRUST)) this.#records.set(key, value);
    }
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
