/**
 * step-ca as the peer of our issuers, with its defaults except for the differences that this comment names.
 *
 * Made equal: a leaf with a P-256 key for 24 h, an intermediate on P-256 below a root, a new TLS connection each, one core (`GOMAXPROCS=1`, and
 * pinned), a credential that is used once, and a record of each certificate on the project's disk.
 * Not equal, for step-ca: its database is a file of its own (Badger), where our issuers write to etcd with conditions. Its client already knows the
 * root, where a newcomer of ours opens another connection to find it.
 * Not equal, for us: it parses and checks a PKCS#10 request and a JWT, where our request has a raw key and a token's secret.
 */
import { execFileSync, spawn } from "node:child_process";
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, randomUUID, sign } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { Agent, request } from "node:https";
import { join } from "node:path";
import { makeIntermediate, makeRoot } from "../../src/node/identity/ca.io.ts";
import { until } from "../_mesh.ts";
import { peerProgram } from "../_peers.ts";
import { freePort, onServerCore, type Running, runningOf, scratchDir } from "../_processes.ts";
import { fail } from "../_work.ts";

const PROVISIONER = "bench";
const TOKEN_SECONDS = 300;

export interface StepCa extends Running {
  /** Prepares requests, which is work of the clients. */
  requests(count: number): readonly StepRequest[];
  sign(request: StepRequest): Promise<void>;
}

export interface StepRequest {
  readonly csr: string;
  readonly ott: string;
}

/** Undefined when step-ca is not installed. */
export async function startStepCa(): Promise<StepCa | undefined> {
  const program = peerProgram("step-ca");
  if (program === undefined) return undefined;
  const folder = scratchDir("step-ca");
  const root = join(folder, "root");
  makeRoot(root, "bench.internal", Date.now());
  makeIntermediate(root, { clusterId: "bench", nodeId: "step-ca" }, folder, Date.now());
  const [intermediate = ""] = readFileSync(join(folder, "identity", "issuer.pem"), "utf8").split(/(?<=-----END CERTIFICATE-----\n)/);
  writeFileSync(join(folder, "intermediate.pem"), intermediate);
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const port = await freePort();
  const config = join(folder, "ca.json");
  writeFileSync(config, JSON.stringify(configOf(folder, root, port, privateKey)));
  const [command, args] = onServerCore(program, [config]);
  const startedMs = performance.now();
  const child = spawn(command, args, { stdio: "ignore", env: { ...process.env, GOMAXPROCS: "1", STEPPATH: folder } });
  const at = { host: "127.0.0.1", port };
  const ca = readFileSync(join(root, "root.pem"), "utf8");
  const server = { ...at, ca };
  await until(() => isHealthy(server), "step-ca answers");
  return {
    ...runningOf("step-ca", child, { grpc: at, startMs: performance.now() - startedMs }),
    requests: (count) => Array.from({ length: count }, (_, i) => requestOf(`m-${i}`, folder, port, privateKey)),
    sign: async (asked) => {
      const { status, text } = await send(server, "POST", "/1.0/sign", JSON.stringify(asked));
      if (status !== 201) throw new Error(`step-ca: ${status} ${text}`);
    },
  };
}

function configOf(folder: string, rootFolder: string, port: number, key: KeyObject): object {
  const jwk = createPublicKey(key).export({ format: "jwk" });
  return {
    root: join(rootFolder, "root.pem"),
    crt: join(folder, "intermediate.pem"),
    key: join(folder, "identity", "issuer-key.pem"),
    address: `127.0.0.1:${port}`,
    dnsNames: ["127.0.0.1"],
    db: { type: "badgerv2", dataSource: join(folder, "db") },
    authority: { provisioners: [{ type: "JWK", name: PROVISIONER, key: { ...jwk, use: "sig", alg: "ES256", kid: PROVISIONER } }] },
    tls: { minVersion: 1.3, maxVersion: 1.3 },
  };
}

/** A certificate request, made by openssl, with a token that can be used once. */
function requestOf(name: string, folder: string, port: number, key: KeyObject): StepRequest {
  const ownKey = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ format: "pem", type: "pkcs8" });
  const keyFile = join(folder, "client-key.pem");
  writeFileSync(keyFile, ownKey, { mode: 0o600 });
  const flags = ["req", "-new", "-key", keyFile, "-subj", `/CN=${name}`, "-addext", `subjectAltName=DNS:${name}`];
  return { csr: execFileSync("openssl", flags, { encoding: "utf8" }), ott: tokenOf(name, port, key) };
}

function tokenOf(name: string, port: number, key: KeyObject): string {
  const seconds = Math.floor(Date.now() / 1000);
  const times = { iat: seconds, nbf: seconds - 1, exp: seconds + TOKEN_SECONDS };
  const claims = { iss: PROVISIONER, aud: `https://127.0.0.1:${port}/1.0/sign`, sub: name, sans: [name], jti: randomUUID(), ...times };
  const text = [{ alg: "ES256", kid: PROVISIONER, typ: "JWT" }, claims].map((part) =>
    Buffer.from(JSON.stringify(part)).toString("base64url"),
  );
  const signature = sign("sha256", Buffer.from(text.join(".")), {
    key: createPrivateKey(key.export({ format: "pem", type: "pkcs8" })),
    dsaEncoding: "ieee-p1363",
  });
  return [...text, signature.toString("base64url")].join(".");
}

interface StepServer {
  readonly host: string;
  readonly port: number;
  readonly ca: string;
}

async function isHealthy(server: StepServer): Promise<boolean> {
  return send(server, "GET", "/health", "").then(
    ({ status }) => status === 200,
    () => false,
  );
}

/** Sends a request over a connection of its own. */
function send(server: StepServer, method: string, path: string, body: string): Promise<{ readonly status: number; readonly text: string }> {
  return new Promise((resolve, reject) => {
    const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(body) };
    const asked = request({ ...server, method, path, headers, agent: new Agent({ keepAlive: false }) }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
      response.on("end", () => resolve({ status: response.statusCode ?? fail(), text }));
    });
    asked.on("error", reject);
    asked.end(body);
  });
}
