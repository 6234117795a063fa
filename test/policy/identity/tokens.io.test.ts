/** Signed tokens against real keys: what is accepted, every way to be refused, and how keys are read and rotated. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { afterAll, expect, test } from "vitest";
import { sha256Hex } from "../../../src/lib/crypto.ts";
import { type TokenSettings, TokenVerifier } from "../../../src/policy/identity/tokens.io.ts";
import { AUDIENCE, ISSUER, TestIssuer, type TokenOptions } from "../../fakes/issuer.ts";

const folder = mkdtempSync(join(tmpdir(), "waymark-tokens-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const issuer = await TestIssuer.create();
const rsa = await TestIssuer.create("RS256", "key-rsa");
const stranger = await TestIssuer.create("ES256", "key-1");
let files = 0;

/** A clock that tests set; `wallMs` is the real time plus `aheadMs`. */
interface Clock {
  monoMs: number;
  aheadMs: number;
}

interface Opened {
  readonly verifier: TokenVerifier;
  readonly clock: Clock;
  readonly faults: unknown[];
  /** How often other keys counted. */
  readonly changes: { readonly count: number };
  readonly path: string;
}

async function open(over: Partial<TokenSettings> = {}, keys?: string): Promise<Opened> {
  files += 1;
  const path = join(folder, `jwks-${files}.json`);
  writeFileSync(path, keys ?? (await issuer.jwks(rsa)));
  const clock: Clock = { monoMs: 0, aheadMs: 0 };
  const faults: unknown[] = [];
  const changes = { count: 0 };
  const settings: TokenSettings = {
    issuer: ISSUER,
    audience: AUDIENCE,
    jwksFile: path,
    jwksUrl: undefined,
    algorithms: ["ES256", "RS256"],
    clockSkewMs: 60_000,
    claims: { principal: "sub", tenant: "tenant", cluster: "cluster", roles: "roles" },
    defaults: { tenant: "", cluster: "local" },
    ...over,
  };
  const ports = {
    monoMs: () => clock.monoMs,
    wallMs: () => Date.now() + clock.aheadMs,
    onKeysFailed: (error: unknown) => void faults.push(error),
    onKeysChanged: () => void (changes.count += 1),
  };
  const verifier = new TokenVerifier(settings, ports);
  await verifier.open();
  return { verifier, clock, faults, changes, path };
}

async function refusal(verifier: TokenVerifier, token: string): Promise<string> {
  try {
    await verifier.identityOf(token);
  } catch (thrown) {
    expect(thrown).toMatchObject({ reason: "unauthenticated" });
    const message = String(thrown);
    for (const piece of token.split(".")) if (piece.length > 3) expect(message).not.toContain(piece);
    return message;
  }
  return "accepted";
}

test("a token of the issuer is accepted, whichever of its keys signed it", async () => {
  const { verifier } = await open();
  const claims = { tenant: "alpha", roles: ["mesh.read"] };
  const want = { principal: "web", tenant: "alpha", cluster: "local", roles: ["mesh.read"], isAuthenticated: true };
  expect(await verifier.identityOf(await issuer.token({ claims }))).toMatchObject(want);
  expect(await verifier.identityOf(await rsa.token({ claims, audience: ["other", AUDIENCE] }))).toMatchObject(want);
  expect(await verifier.identityOf(await issuer.token({ claims, kid: undefined }))).toMatchObject(want);
});

test("the token id is the id of the token, or else a part of its hash", async () => {
  const { verifier } = await open();
  const unnamed = await issuer.token({});
  expect(await verifier.identityOf(unnamed)).toMatchObject({ tokenId: `sha256:${sha256Hex(unnamed).slice(0, 12)}` });
  const named = await verifier.identityOf(await issuer.token({ claims: { jti: "id-7" } }));
  expect(named).toMatchObject({ tokenId: "jti:id-7" });
});

const REFUSED: readonly { readonly what: string; readonly options: TokenOptions; readonly says: string }[] = [
  { what: "expired", options: { expiresInS: -61 }, says: "token has expired" },
  { what: "not yet valid", options: { notBeforeInS: 90 }, says: "token is not valid yet" },
  { what: "issued in the future", options: { issuedInS: 90 }, says: "token was issued in the future" },
  { what: "of another issuer", options: { issuer: "https://other.example" }, says: "token is from an unexpected issuer" },
  { what: "for another audience", options: { audience: "other" }, says: "token is for an unexpected audience" },
  { what: "without an end", options: { expiresInS: undefined }, says: "token has no claim exp" },
  { what: "with an unknown key", options: { kid: "key-9" }, says: "a key that the issuer does not publish" },
  { what: "with an empty subject", options: { subject: "" }, says: "token's claim sub must be" },
];
test.each(REFUSED)("a token $what is refused", async ({ options, says }) => {
  const { verifier } = await open();
  expect(await refusal(verifier, await issuer.token(options))).toContain(says);
});

test("a clock that is off by less than the skew does no harm", async () => {
  const { verifier } = await open();
  for (const options of [{ expiresInS: -30 }, { notBeforeInS: 30, issuedInS: 30 }])
    expect(await verifier.identityOf(await issuer.token(options))).toMatchObject({ principal: "web" });
});

test("what attackers make of a token is refused", async () => {
  const { verifier } = await open();
  const good = await issuer.token();
  const [head = "", body = "", signature = ""] = good.split(".");
  const forged = Buffer.from(
    JSON.stringify({ ...(JSON.parse(Buffer.from(body, "base64url").toString()) as object), roles: ["mesh.admin"] }),
  );
  const cases: readonly { readonly token: string; readonly says: RegExp }[] = [
    { token: issuer.unsigned(), says: /not allowed|malformed/ },
    { token: issuer.unsigned("None"), says: /not allowed|malformed/ },
    { token: issuer.unsigned("ES256"), says: /has an invalid signature|malformed/ },
    { token: await rsa.confused(), says: /algorithm that is not allowed/ },
    { token: await stranger.token(), says: /has an invalid signature/ },
    { token: `${head}.${forged.toString("base64url")}.${signature}`, says: /has an invalid signature/ },
    { token: `${head}.${body}.${signature.slice(0, -4)}AAAA`, says: /has an invalid signature/ },
    { token: `${head}.${body}`, says: /malformed/ },
    { token: `${head}.${body}.${signature}.x`, says: /malformed/ },
    { token: `${head}.${body}.!!!`, says: /malformed|wrong/ },
    { token: `!!!.${body}.${signature}`, says: /malformed/ },
    { token: "..", says: /malformed/ },
    { token: "opaque-token", says: /malformed/ },
    { token: `${Buffer.from("[]").toString("base64url")}.${body}.${signature}`, says: /malformed/ },
    { token: `${Buffer.from('{"alg":"ES256","crit":["x"],"x":1}').toString("base64url")}.${body}.${signature}`, says: /malformed/ },
  ];
  for (const { token, says } of cases) expect(await refusal(verifier, token)).toMatch(says);
});

test("an algorithm that the settings leave out is refused, although its key is published", async () => {
  const { verifier } = await open({ algorithms: ["ES256"] });
  expect(await refusal(verifier, await rsa.token())).toContain("algorithm that is not allowed");
});

test("a token seen before is known at once, until it expires", async () => {
  const { verifier, clock } = await open();
  const token = await issuer.token({ expiresInS: 100 });
  const first = verifier.identityOf(token);
  expect(first).toBeInstanceOf(Promise);
  expect(verifier.identityOf(token)).toBe(first); // One verification, however many wait for it.
  const known = await first;
  expect(verifier.identityOf(token)).toBe(known);
  // The times in a token are whole seconds: it expires up to a second sooner than after 100 s, and 60 s of skew are allowed.
  clock.aheadMs = 158_000;
  expect(verifier.identityOf(token)).toBe(known);
  clock.aheadMs = 161_000;
  expect(await refusal(verifier, token)).toContain("token has expired");
});

test("no token is kept in plain text", async () => {
  const { verifier } = await open();
  const token = await issuer.token();
  await verifier.identityOf(token);
  expect(inspect(verifier, { depth: 9, showHidden: true })).not.toContain(token);
});

test("a flood of new tokens is held back while others are verified", async () => {
  const { verifier } = await open();
  const flood = Array.from({ length: 1000 }, (_, i) => Promise.resolve(verifier.identityOf(`a.b.${i}`)).catch(() => "refused"));
  expect(() => verifier.identityOf("a.b.c")).toThrow("discovery_rate_limited: too many tokens");
  await Promise.all(flood);
  expect(await refusal(verifier, "a.b.c")).toContain("malformed");
});

test("a key that was published since is found, and readings are spaced", async () => {
  const { verifier, clock, path } = await open();
  const next = await TestIssuer.create("ES256", "key-2");
  clock.monoMs = 10_000;
  expect(await refusal(verifier, await next.token())).toContain("does not publish");
  writeFileSync(path, await issuer.jwks(next));
  clock.monoMs = 12_000;
  expect(await refusal(verifier, await next.token())).toContain("does not publish");
  clock.monoMs = 16_000;
  expect(await verifier.identityOf(await next.token())).toMatchObject({ principal: "web" });
});

test("a key that was withdrawn takes the tokens it signed with it, when the keys are next read", async () => {
  const { verifier, clock, path } = await open();
  const token = await issuer.token();
  await verifier.identityOf(token);
  writeFileSync(path, await rsa.jwks());
  clock.monoMs = 301_000;
  await verifier.identityOf(token); // Known, and the keys are old: they are read again, for those who ask later.
  await expect.poll(() => refusal(verifier, token)).toContain("does not publish");
});

test("keys are read again when somebody asks for it, and it is told when other keys count", async () => {
  const { verifier, changes, path } = await open();
  const token = await issuer.token();
  await verifier.identityOf(token);
  await verifier.reread();
  expect(changes.count).toBe(1);
  writeFileSync(path, await rsa.jwks());
  await verifier.reread();
  expect([changes.count, await refusal(verifier, token)]).toEqual([2, expect.stringContaining("does not publish")]);
});

test("keys that cannot be read again leave those of before, and somebody hears of it", async () => {
  const { verifier, clock, faults, path } = await open();
  rmSync(path);
  clock.monoMs = 301_000;
  expect(await verifier.identityOf(await issuer.token())).toMatchObject({ principal: "web" });
  await expect.poll(() => faults.length).toBe(1);
});

test.each(["", "{", "[]", '{"keys":{}}', "-----BEGIN PRIVATE KEY-----"])(
  "a file that holds %j is found at the start, and not shown",
  async (text) => {
    const opening = open({}, text);
    await expect(opening).rejects.toThrow(/is not a JWKS/);
    await opening.catch((error: unknown) => expect(String(error)).not.toContain("PRIVATE"));
  },
);

test("a file that is not there is found at the start", async () => {
  await expect(open({ jwksFile: join(folder, "absent.json") })).rejects.toThrow("ENOENT");
});

async function serve(
  answer: () => { readonly status: number; readonly body: string },
): Promise<{ readonly url: string; readonly server: Server }> {
  const server = createServer((_request, response) => {
    const { status, body } = answer();
    response.writeHead(status, status === 302 ? { location: "/elsewhere" } : {}).end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no address");
  return { url: `http://127.0.0.1:${address.port}/jwks`, server };
}

test("keys from a URL: an issuer that is away at the start, redirects or sends too much is tried again when it can be", async () => {
  let reply = { status: 503, body: "" };
  const { url, server } = await serve(() => reply);
  try {
    const { verifier, clock, faults } = await open({ jwksFile: undefined, jwksUrl: url });
    const token = await issuer.token();
    expect(faults).toHaveLength(1);
    expect(await refusal(verifier, token)).toContain("keys could not be read yet");
    for (const bad of [
      { status: 302, body: "" },
      { status: 200, body: `{"keys":[]${" ".repeat(1_048_576)}}` },
      { status: 200, body: "<html>" },
    ]) {
      reply = bad;
      clock.monoMs += 301_000;
      expect(await refusal(verifier, token)).toContain("keys could not be read yet");
    }
    reply = { status: 200, body: await issuer.jwks() };
    clock.monoMs += 301_000;
    await expect.poll(() => Promise.resolve(verifier.identityOf(token)).catch(() => undefined)).toMatchObject({ principal: "web" });
  } finally {
    server.close();
  }
});
