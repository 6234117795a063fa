/** The tokens of callers that administrators make while nodes run. Each node that knows their digests accepts them. */
import { sha256Hex } from "../../lib/crypto.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { allItems } from "../../store/control/all-items.io.ts";
import type { ControlStore } from "../../store/control/store.ts";
import { CREDENTIALS, type CredentialRecord, decodeCredential, encodeIdentity } from "./records.ts";
import type { ListedCredential } from "./trust.ts";

export interface CallerTokenTerms extends Pick<CredentialRecord, "createdBy" | "principal" | "roles" | "tenant"> {
  readonly ttlMs: number;
}

const MAX_CREDENTIALS = 10_000;
const ACCESSOR_BYTES = 6;
const SECRET_BYTES = 32;

export class CallerTokens {
  readonly #store: ControlStore;
  readonly #random: (count: number) => Uint8Array;

  constructor(store: ControlStore, random: (count: number) => Uint8Array) {
    this.#store = store;
    this.#random = random;
  }

  /** Makes a token: `wmt1.<accessor id>.<secret>`. Rejects with `quota_exceeded` if there are too many. */
  async create({ ttlMs, ...terms }: CallerTokenTerms, wallMs: number): Promise<ListedCredential & { readonly token: string }> {
    const known = await this.list(wallMs);
    if (known.length >= MAX_CREDENTIALS)
      throw new WaymarkError("quota_exceeded", `there are ${known.length} tokens of callers; revoke some with "waymark auth token revoke"`);
    const accessor = Buffer.from(this.#random(ACCESSOR_BYTES)).toString("hex");
    const token = `wmt1.${accessor}.${Buffer.from(this.#random(SECRET_BYTES)).toString("base64url")}`;
    // A token has 256 random bits, so that its digest needs no slow hash.
    const record: CredentialRecord = { ...terms, digest: sha256Hex(token), createdWallMs: wallMs, expiresWallMs: wallMs + ttlMs };
    const { isSwapped } = await this.#store.compareAndSwap(CREDENTIALS + accessor, 0, encodeIdentity(record));
    if (!isSwapped) throw new WaymarkError("version_conflict", "another token has the same accessor id; retry");
    return { accessor, record, token };
  }

  /** Lists the tokens by accessor id. Removes expired ones. */
  async list(wallMs: number): Promise<readonly ListedCredential[]> {
    const kept: ListedCredential[] = [];
    for await (const { key, version, value } of allItems(this.#store, CREDENTIALS)) {
      const record = decodeCredential(value);
      if (record === undefined) continue;
      if (wallMs > record.expiresWallMs) await this.#store.compareAndSwap(key, version, undefined);
      else kept.push({ accessor: key.slice(CREDENTIALS.length), record });
    }
    return kept;
  }

  /** Ends a token. Rejects with `not_found`. */
  async revoke(accessor: string): Promise<CredentialRecord | undefined> {
    const item = await this.#store.get(CREDENTIALS + accessor);
    if (item === undefined) throw new WaymarkError("not_found", `accessor: there is no token ${accessor}`);
    await this.#store.transact([], [{ key: item.key, value: undefined }]);
    return decodeCredential(item.value);
  }
}
