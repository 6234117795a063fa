/** Verifies signed bearer tokens (JWT) with jose against the issuer's published keys, and caches each result until the token expires. */
import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTPayload, type JWTVerifyGetKey, jwtVerify } from "jose";
import { sha256Hex } from "../../lib/crypto.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { MAX_JWKS_BYTES, readBounded } from "../../lib/named-file.io.ts";
import { type CallerIdentity, tokenIdOf, unauthenticated } from "./caller.ts";
import { type ClaimNames, type IdentityDefaults, identityOfClaims, type TokenClaims } from "./claims.ts";
import type { TokenPort } from "./tenants.ts";

export interface TokenSettings {
  readonly issuer: string;
  readonly audience: string;
  /** The source of the keys; exactly one of `jwksFile` and `jwksUrl` is set. */
  readonly jwksFile: string | undefined;
  readonly jwksUrl: string | undefined;
  readonly algorithms: readonly string[];
  readonly clockSkewMs: number;
  readonly claims: ClaimNames;
  readonly defaults: IdentityDefaults;
}

export interface TokenPorts {
  wallMs(): number;
  monoMs(): number;
  /** Called if the keys could not be read. The previous keys remain in use. */
  onKeysFailed(error: unknown): void;
  /** Called when the keys in use have changed. Callers whose tokens were verified with the previous keys may have to authenticate again. */
  onKeysChanged(): void;
}

/** Maximum number of verified tokens in the cache. */
const MAX_REMEMBERED = 10_000;
/** Maximum number of concurrent verifications, so that a flood of forged tokens cannot exhaust the memory or the thread pool. */
const MAX_PENDING = 1_000;
/** Age at which the keys are read again, in ms. A key that the issuer has withdrawn is accepted for at most this time. */
const MAX_KEYS_AGE_MS = 300_000;
/** Minimum time, in ms, between two reads of the keys that are caused by tokens with unknown keys. */
const COOLDOWN_MS = 5_000;
const FETCH_MS = 5_000;

interface VerifiedToken {
  readonly identity: CallerIdentity;
  readonly untilWallMs: number;
}

export class TokenVerifier implements TokenPort {
  readonly #settings: TokenSettings;
  readonly #ports: TokenPorts;
  readonly #keys: IssuerKeys;
  /** Verified tokens by the SHA-256 of the token, least recently used first. The tokens themselves are not stored. */
  readonly #remembered = new Map<string, VerifiedToken>();
  readonly #pending = new Map<string, Promise<CallerIdentity>>();
  #timer: NodeJS.Timeout | undefined;

  constructor(settings: TokenSettings, ports: TokenPorts) {
    this.#settings = settings;
    this.#ports = ports;
    const onChanged = () => {
      // Drops all cached tokens, because some may be signed with a withdrawn key.
      this.#remembered.clear();
      ports.onKeysChanged();
    };
    this.#keys = new IssuerKeys(settings, { ...ports, onChanged });
  }

  /** Reads the keys now, and periodically until `close`. Rejects if a file cannot be read, so that a wrong path is detected at startup. */
  async open(): Promise<void> {
    await this.#keys.open();
    // Each call refreshes the keys if they are old. A stream that was opened with a token makes no further calls, so a timer also refreshes the keys.
    this.#timer = setInterval(() => void this.reread(), MAX_KEYS_AGE_MS).unref();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /** Reads the keys again now. Never rejects; if the keys cannot be read, the previous keys remain in use. */
  reread(): Promise<void> {
    return this.#keys.readOnce();
  }

  identityOf(token: string): CallerIdentity | Promise<CallerIdentity> {
    const digest = sha256Hex(token);
    const known = this.#remembered.get(digest);
    if (known !== undefined) {
      this.#remembered.delete(digest);
      if (this.#ports.wallMs() < known.untilWallMs) {
        this.#remembered.set(digest, known);
        this.#keys.refresh();
        return known.identity;
      }
    }
    return this.#pending.get(digest) ?? this.#verifyOnce(token, digest);
  }

  #verifyOnce(token: string, digest: string): Promise<CallerIdentity> {
    if (this.#pending.size >= MAX_PENDING) {
      throw new WaymarkError("discovery_rate_limited", "too many tokens are being verified; retry later", { retryMs: 1_000 });
    }
    const verified = this.#verify(token, digest).finally(() => this.#pending.delete(digest));
    this.#pending.set(digest, verified);
    return verified;
  }

  async #verify(token: string, digest: string): Promise<CallerIdentity> {
    const payload = await this.#payload(token);
    const { claims, defaults, clockSkewMs } = this.#settings;
    const untilWallMs = (payload.exp ?? 0) * 1000 + clockSkewMs;
    const tokenId = typeof payload.jti === "string" && payload.jti !== "" ? `jti:${payload.jti}` : tokenIdOf(digest);
    const identity = { ...identityOfClaims(payload, claims, defaults), untilWallMs, tokenId };
    this.#remember(digest, { identity, untilWallMs });
    return identity;
  }

  async #payload(token: string): Promise<JWTPayload> {
    try {
      return await checked(token, this.#keys.current(), this.#settings, this.#ports.wallMs());
    } catch (thrown) {
      // The token may be signed with a key that was published after the keys were last read.
      if (!(thrown instanceof errors.JWKSNoMatchingKey)) throw refusalOf(thrown);
    }
    await this.#keys.reread();
    try {
      return await checked(token, this.#keys.current(), this.#settings, this.#ports.wallMs());
    } catch (thrown) {
      throw refusalOf(thrown);
    }
  }

  #remember(digest: string, remembered: VerifiedToken): void {
    this.#remembered.set(digest, remembered);
    for (const oldest of this.#remembered.keys()) {
      if (this.#remembered.size <= MAX_REMEMBERED) return;
      this.#remembered.delete(oldest);
    }
  }
}

/** The conditions that a token must meet, in addition to its signature. */
type TokenConditions = Pick<TokenSettings, "algorithms" | "audience" | "clockSkewMs" | "issuer">;

/** Verifies a token with keys in memory, and returns its claims. Rejects with `unauthenticated`. */
export async function verifiedClaims(token: string, jwks: string, conditions: TokenConditions, wallMs: number): Promise<TokenClaims> {
  try {
    return await checked(token, keySetOf(jwks, "jwks"), conditions, wallMs);
  } catch (thrown) {
    throw refusalOf(thrown);
  }
}

async function checked(token: string, key: JWTVerifyGetKey, conditions: TokenConditions, wallMs: number): Promise<JWTPayload> {
  const { issuer, audience, algorithms, clockSkewMs } = conditions;
  const { payload } = await jwtVerify(token, key, {
    issuer,
    audience,
    algorithms: [...algorithms],
    clockTolerance: clockSkewMs / 1000,
    requiredClaims: ["exp"],
    currentDate: new Date(wallMs),
  });
  if (payload.iat !== undefined && payload.iat * 1000 > wallMs + clockSkewMs) throw unauthenticated("token was issued in the future");
  return payload;
}

/** Describes the fault of a token, without revealing any of its content. */
function refusalOf(thrown: unknown): WaymarkError {
  if (thrown instanceof WaymarkError) return thrown;
  if (thrown instanceof errors.JWTExpired) return unauthenticated("token has expired");
  if (thrown instanceof errors.JWTClaimValidationFailed) return unauthenticated(claimRefusal(thrown));
  if (thrown instanceof errors.JOSEAlgNotAllowed)
    return unauthenticated("token is signed with an algorithm that is not allowed on this node");
  if (thrown instanceof errors.JWKSNoMatchingKey) return unauthenticated("token is signed with a key that the issuer does not publish");
  if (thrown instanceof errors.JWKSMultipleMatchingKeys)
    return unauthenticated("token has no key id, and more than one of the issuer's keys match");
  if (thrown instanceof errors.JWSSignatureVerificationFailed) return unauthenticated("token has an invalid signature");
  // All other jose errors concern the form of the token. So does a TypeError for a header that specifies another kind of key.
  return unauthenticated("token is malformed or of an unsupported kind");
}

function claimRefusal({ claim, reason }: errors.JWTClaimValidationFailed): string {
  if (reason === "missing") return `token has no claim ${claim}`;
  switch (claim) {
    case "iss":
      return "token is from an unexpected issuer";
    case "aud":
      return "token is for an unexpected audience";
    case "nbf":
      return "token is not valid yet";
    default:
      return `token has an invalid claim ${claim}`;
  }
}

interface KeyPorts extends TokenPorts {
  onChanged(): void;
}

/** The issuer's public keys, from a file or a URL. The keys are read again periodically. If a read fails, the previous keys remain in use. */
class IssuerKeys {
  readonly #settings: TokenSettings;
  readonly #ports: KeyPorts;
  #text: string | undefined;
  #set: JWTVerifyGetKey | undefined;
  #readMonoMs = 0;
  #reading: Promise<void> | undefined;

  constructor(settings: TokenSettings, ports: KeyPorts) {
    this.#settings = settings;
    this.#ports = ports;
  }

  async open(): Promise<void> {
    // If a file is missing, the settings are wrong. If an issuer does not respond, it may only start later than this node.
    if (this.#settings.jwksFile !== undefined) await this.#read();
    else await this.reread();
  }

  current(): JWTVerifyGetKey {
    this.refresh();
    if (this.#set === undefined) throw unauthenticated("token cannot be verified: the issuer's keys could not be read yet");
    return this.#set;
  }

  /** Reads the keys again in the background if they are old. */
  refresh(): void {
    if (this.#ports.monoMs() - this.#readMonoMs >= MAX_KEYS_AGE_MS) void this.readOnce();
  }

  /** Reads the keys again, unless they have just been read. Never rejects. */
  async reread(): Promise<void> {
    if (this.#set === undefined || this.#ports.monoMs() - this.#readMonoMs >= COOLDOWN_MS) await this.readOnce();
  }

  /** Reads the keys again, or waits for a read in progress. Never rejects. */
  readOnce(): Promise<void> {
    this.#reading ??= this.#read()
      .catch((error: unknown) => this.#ports.onKeysFailed(error))
      .finally(() => {
        this.#reading = undefined;
      });
    return this.#reading;
  }

  async #read(): Promise<void> {
    this.#readMonoMs = this.#ports.monoMs();
    const { jwksFile, jwksUrl } = this.#settings;
    const text = jwksFile === undefined ? await fetchText(jwksUrl ?? "") : readKeyFile(jwksFile);
    if (text === this.#text) return;
    this.#set = keySetOf(text, jwksFile ?? jwksUrl ?? "");
    this.#text = text;
    this.#ports.onChanged();
  }
}

/** Throws if the file cannot be read, or contains no keys. */
export function checkKeyFile(path: string): void {
  keySetOf(readKeyFile(path), path);
}

function readKeyFile(path: string): string {
  const read = readBounded(path, MAX_JWKS_BYTES);
  if (read.bytes === undefined) throw new Error(`${path}: ${read.fault}`);
  return read.bytes.toString("utf8");
}

function keySetOf(text: string, from: string): JWTVerifyGetKey {
  try {
    // jose checks the format and makes a copy, so the cast is safe.
    return createLocalJWKSet(JSON.parse(text) as JSONWebKeySet); // oxlint-disable-line typescript/no-unsafe-type-assertion
  } catch {
    // The parser's message is omitted: it would show the content, which may be from a file other than the intended one.
    throw new Error(`${from} is not a JWKS: expected JSON with a list of keys`);
  }
}

async function fetchText(url: string): Promise<string> {
  const reply = await fetch(url, { signal: AbortSignal.timeout(FETCH_MS), redirect: "error", headers: { accept: "application/json" } });
  if (reply.status !== 200) throw new Error(`${url} returned status ${reply.status}`);
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  const body: AsyncIterable<Uint8Array> | readonly Uint8Array[] = reply.body ?? [];
  for await (const chunk of body) {
    sizeBytes += chunk.length;
    if (sizeBytes > MAX_JWKS_BYTES) throw new Error(`${url} returned more than ${MAX_JWKS_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}
