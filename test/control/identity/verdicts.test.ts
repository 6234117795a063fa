/** Every rule for joining with a token and for renewing, one case each. Sequences of requests are in `test/sim/joins.ts`. */
import { expect, test } from "vitest";
import { secretDigest } from "../../../src/control/identity/join-token.ts";
import { MAX_EARLIER_KEYS, type NameRecord, type TokenRecord } from "../../../src/control/identity/records.ts";
import {
  type IdentityProblem,
  type JoinClaim,
  judgeJoin,
  judgeRenewal,
  type RenewalClaim,
  withKey,
} from "../../../src/control/identity/verdicts.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";

const NOW_MS = 1_000_000;
const TOKEN: TokenRecord = {
  secretDigest: secretDigest("s"),
  clusterId: "eu",
  role: "node",
  name: "",
  dnsNames: [],
  uses: 1,
  used: 0,
  createdBy: "",
  createdWallMs: 0,
  expiresWallMs: NOW_MS + 1,
};
const HELD: NameRecord = {
  keyDigest: "k1",
  earlierKeys: [],
  dnsNames: [],
  issuer: "eu-1",
  issuerKey: "i",
  attestedBy: "",
  tokenId: "eu:1",
  madeWallMs: 0,
  expiresWallMs: NOW_MS,
  lastEndWallMs: NOW_MS,
  leastMadeWallMs: 0,
  isRevoked: false,
};
const CLAIM: JoinClaim = { name: "n", keyDigest: "k2", tokenId: "eu:2", secret: "s", clusterId: "eu" };

/** The verdict, or the problem of the refusal. */
function outcome(judge: () => string): string {
  try {
    return judge();
  } catch (error) {
    if (!(error instanceof WaymarkError) || error.reason !== "discovery_access_denied") throw error;
    const problem = error.details.metadata?.["problem"] ?? "";
    expect(error.message).toContain(`(${problem})`);
    return problem;
  }
}

interface JoinCase {
  readonly what: string;
  readonly claim?: Partial<JoinClaim>;
  /** Undefined if there is no token. */
  readonly token?: Partial<TokenRecord> | undefined;
  readonly held?: Partial<NameRecord>;
  readonly want: IdentityProblem | "admitted" | "repeated";
}

const EXPIRED = { expiresWallMs: NOW_MS - 1 };
const SPENT = { uses: 1, used: 1 };
const NAMED = { name: "n" };

test.each<JoinCase>([
  { what: "a free name", want: "admitted" },
  { what: "the last of two uses", token: { uses: 2, used: 1 }, want: "admitted" },
  { what: "the name that the token names", token: NAMED, want: "admitted" },
  { what: "no token", token: undefined, want: "token_unknown" },
  { what: "a wrong secret", claim: { secret: "t" }, want: "token_unknown" },
  { what: "a wrong secret of a spent token", claim: { secret: "" }, token: SPENT, want: "token_unknown" },
  { what: "a token of another cluster in the same store", token: { clusterId: "us" }, want: "token_wrong_cluster" },
  { what: "the moment at which a token ends", token: { expiresWallMs: NOW_MS }, want: "token_expired" },
  { what: "another name than the token names", token: { name: "m" }, want: "join_denied" },
  { what: "a spent token", token: SPENT, want: "token_spent" },
  { what: "a held name", held: {}, want: "identity_taken" },
  { what: "a held name that the token names", token: NAMED, held: {}, want: "identity_taken" },
  { what: "an expired name that the token does not name", held: EXPIRED, want: "identity_taken" },
  { what: "an expired name that the token names", token: NAMED, held: EXPIRED, want: "admitted" },
  { what: "a revoked name that the token does not name", held: { isRevoked: true }, want: "identity_taken" },
  { what: "a revoked name that the token names", token: NAMED, held: { isRevoked: true }, want: "admitted" },
  { what: "the revoked key", claim: { keyDigest: "k1" }, token: NAMED, held: { isRevoked: true }, want: "revoked" },
  { what: "a key before the revoked key", token: NAMED, held: { isRevoked: true, earlierKeys: ["k0", "k2"] }, want: "revoked" },
  { what: "the holder again", claim: { keyDigest: "k1", tokenId: "eu:1" }, token: SPENT, held: {}, want: "repeated" },
  { what: "the holder again, after its end", claim: { keyDigest: "k1", tokenId: "eu:1" }, token: SPENT, held: EXPIRED, want: "repeated" },
  { what: "the holder with another token", claim: { keyDigest: "k1" }, held: {}, want: "admitted" },
  { what: "the holder with another spent token", claim: { keyDigest: "k1" }, token: SPENT, held: {}, want: "token_spent" },
  { what: "another key with the holder's spent token", claim: { tokenId: "eu:1" }, token: SPENT, held: {}, want: "token_spent" },
  { what: "an earlier key of the name", token: { uses: 9 }, held: { earlierKeys: ["k2"] }, want: "identity_taken" },
])("joining with $what: $want", ({ claim, held, want, ...rest }) => {
  const token = "token" in rest && rest.token === undefined ? undefined : { ...TOKEN, ...rest.token };
  const state = { token, held: held && { ...HELD, ...held } };
  expect(outcome(() => judgeJoin({ ...CLAIM, ...claim }, state, NOW_MS))).toBe(want);
});

const RENEWAL: RenewalClaim = { name: "n", keyDigest: "k1", newKeyDigest: "k2", renewAfterEndMs: 10 };

interface RenewalCase {
  readonly what: string;
  readonly claim?: Partial<RenewalClaim>;
  /** Undefined if no certificate was issued for the name. */
  readonly held?: Partial<NameRecord> | undefined;
  readonly want: IdentityProblem | "admitted" | "repeated";
}

test.each<RenewalCase>([
  { what: "the current key", want: "admitted" },
  { what: "the current key, just before it is too late", held: { expiresWallMs: NOW_MS - 10 }, want: "admitted" },
  { what: "the current key, too late", held: { expiresWallMs: NOW_MS - 11 }, want: "identity_expired" },
  { what: "a name without a holder", held: undefined, want: "identity_unknown" },
  { what: "a revoked name", held: { isRevoked: true }, want: "revoked" },
  { what: "a revoked name, again", held: { isRevoked: true, keyDigest: "k2", earlierKeys: ["k1"] }, want: "revoked" },
  { what: "the same request again", held: { keyDigest: "k2", earlierKeys: ["k1", "k0"] }, want: "repeated" },
  {
    what: "the same request again, too late",
    held: { keyDigest: "k2", earlierKeys: ["k1"], ...EXPIRED, expiresWallMs: 0 },
    want: "identity_expired",
  },
  { what: "the previous key, for another new key", held: { keyDigest: "k3", earlierKeys: ["k1"] }, want: "key_copied" },
  { what: "an older key", held: { keyDigest: "k3", earlierKeys: ["k9", "k1"] }, want: "key_copied" },
  { what: "an older key, for the current key", held: { keyDigest: "k2", earlierKeys: ["k9", "k1"] }, want: "key_copied" },
  { what: "the key of another program", held: { keyDigest: "k7" }, want: "identity_taken" },
  { what: "no new key", claim: { newKeyDigest: "k1" }, want: "identity_taken" },
  { what: "a new key that was used before", held: { earlierKeys: ["k9", "k2"] }, want: "identity_taken" },
])("renewing with $what: $want", ({ claim, want, ...rest }) => {
  const held = "held" in rest && rest.held === undefined ? undefined : { ...HELD, ...rest.held };
  expect(outcome(() => judgeRenewal({ ...RENEWAL, ...claim }, held, NOW_MS))).toBe(want);
});

test("a record keeps the newest of its earlier keys", () => {
  expect(withKey(undefined, "k1")).toEqual({ keyDigest: "k1", earlierKeys: [] });
  expect(withKey({ ...HELD, earlierKeys: ["k0"] }, "k1")).toEqual({ keyDigest: "k1", earlierKeys: ["k0"] });
  const earlierKeys = Array.from({ length: MAX_EARLIER_KEYS }, (_, at) => `e${at}`);
  expect(withKey({ ...HELD, earlierKeys }, "k2")).toEqual({ keyDigest: "k2", earlierKeys: ["k1", ...earlierKeys.slice(0, -1)] });
});
