/** An issuer of signed tokens for tests: its keys, its tokens, and tokens as attackers make them. */
import { createHmac } from "node:crypto";
import { type CryptoKey, exportJWK, exportSPKI, generateKeyPair, type JWK, SignJWT } from "jose";

export const ISSUER = "https://issuer.example";
export const AUDIENCE = "waymark";

export interface TokenOptions {
  readonly claims?: Readonly<Record<string, unknown>>;
  readonly subject?: string;
  readonly issuer?: string;
  readonly audience?: string | string[];
  /** Seconds from now; undefined leaves the claim out. */
  readonly expiresInS?: number | undefined;
  readonly notBeforeInS?: number;
  readonly issuedInS?: number;
  readonly kid?: string | undefined;
}

export class TestIssuer {
  readonly algorithm: string;
  readonly kid: string;
  readonly #privateKey: CryptoKey;
  readonly #publicKey: CryptoKey;

  private constructor(algorithm: string, kid: string, keys: { readonly privateKey: CryptoKey; readonly publicKey: CryptoKey }) {
    this.algorithm = algorithm;
    this.kid = kid;
    this.#privateKey = keys.privateKey;
    this.#publicKey = keys.publicKey;
  }

  static async create(algorithm = "ES256", kid = "key-1"): Promise<TestIssuer> {
    return new TestIssuer(algorithm, kid, await generateKeyPair(algorithm, { extractable: true }));
  }

  async jwk(): Promise<JWK> {
    return { ...(await exportJWK(this.#publicKey)), kid: this.kid, alg: this.algorithm, use: "sig" };
  }

  async jwks(...others: readonly TestIssuer[]): Promise<string> {
    return JSON.stringify({ keys: await Promise.all([this, ...others].map((each) => each.jwk())) });
  }

  token(options: TokenOptions = {}): Promise<string> {
    const nowS = Math.floor(Date.now() / 1000);
    const kid = "kid" in options ? options.kid : this.kid;
    const expiresInS = "expiresInS" in options ? options.expiresInS : 600;
    const jwt = new SignJWT({ ...options.claims })
      .setProtectedHeader({ alg: this.algorithm, ...(kid !== undefined && { kid }) })
      .setSubject(options.subject ?? "web")
      .setIssuer(options.issuer ?? ISSUER)
      .setAudience(options.audience ?? AUDIENCE)
      .setIssuedAt(nowS + (options.issuedInS ?? 0));
    if (expiresInS !== undefined) jwt.setExpirationTime(nowS + expiresInS);
    if (options.notBeforeInS !== undefined) jwt.setNotBefore(nowS + options.notBeforeInS);
    return jwt.sign(this.#privateKey);
  }

  /** HS256 with the public key's PEM as the secret: what a verifier accepts that lets the token choose the algorithm. */
  async confused(): Promise<string> {
    const head = `${part({ alg: "HS256", kid: this.kid, typ: "JWT" })}.${part(goodClaims())}`;
    return `${head}.${createHmac("sha256", await exportSPKI(this.#publicKey))
      .update(head)
      .digest("base64url")}`;
  }

  /** No signature, and a header that says that this is meant. */
  unsigned(alg = "none"): string {
    return `${part({ alg, kid: this.kid, typ: "JWT" })}.${part(goodClaims())}.`;
  }
}

function goodClaims() {
  return { sub: "web", iss: ISSUER, aud: AUDIENCE, exp: Math.floor(Date.now() / 1000) + 600 };
}

function part(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}
