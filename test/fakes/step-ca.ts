/** The files and requests of step-ca, which issues certificates for one-time tokens and renews them for their holders. */
import { execFileSync } from "node:child_process";
import { createPrivateKey, createPublicKey, generateKeyPairSync, randomUUID, sign } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { Agent, request } from "node:https";
import { join } from "node:path";

const PROVISIONER = "tests";
const TOKEN_SECONDS = 300;

export interface StepRequest {
  readonly csr: string;
  readonly ott: string;
}

export interface StepCaOptions {
  readonly folder: string;
  readonly port: number;
  readonly rootFile: string;
  /** An intermediate below the root, and its key. */
  readonly certFile: string;
  readonly keyFile: string;
}

/** The program is started with `configFile`. */
export class StepCa {
  readonly configFile: string;
  readonly #server: { readonly host: string; readonly port: number; readonly ca: string };
  readonly #provisioner = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;

  constructor({ folder, port, rootFile, certFile, keyFile }: StepCaOptions) {
    this.configFile = join(folder, "ca.json");
    this.#server = { host: "127.0.0.1", port, ca: readFileSync(rootFile, "utf8") };
    const key = { ...createPublicKey(this.#provisioner).export({ format: "jwk" }), use: "sig", alg: "ES256", kid: PROVISIONER };
    const config = {
      root: rootFile,
      crt: certFile,
      key: keyFile,
      address: `127.0.0.1:${port}`,
      dnsNames: ["127.0.0.1"],
      db: { type: "badgerv2", dataSource: join(folder, "db") },
      authority: { provisioners: [{ type: "JWK", name: PROVISIONER, key }] },
      tls: { minVersion: 1.3, maxVersion: 1.3 },
    };
    writeFileSync(this.configFile, JSON.stringify(config));
  }

  async isHealthy(): Promise<boolean> {
    return this.#send("GET", "/health", "").then(
      () => true,
      () => false,
    );
  }

  /** A request for this alternative name, made by openssl, with a token that can be used once. Makes the key if it does not exist. */
  request(name: string, kind: "DNS" | "URI", alternativeName: string, keyFile: string): StepRequest {
    const made = () => generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ format: "pem", type: "pkcs8" });
    if (!existsSync(keyFile)) writeFileSync(keyFile, made(), { mode: 0o600 });
    const flags = ["req", "-new", "-key", keyFile, "-subj", `/CN=${name}`, "-addext", `subjectAltName=${kind}:${alternativeName}`];
    return { csr: execFileSync("openssl", flags, { encoding: "utf8" }), ott: this.#tokenFor(name, alternativeName) };
  }

  /** Returns the certificate with its intermediate in PEM. */
  async sign(asked: StepRequest): Promise<string> {
    return chainIn(await this.#send("POST", "/1.0/sign", JSON.stringify(asked)));
  }

  /** Returns the next certificate for the key of this one. */
  async renew(certFile: string, keyFile: string): Promise<string> {
    return chainIn(await this.#send("POST", "/1.0/renew", "", { cert: readFileSync(certFile), key: readFileSync(keyFile) }));
  }

  #tokenFor(name: string, alternativeName: string): string {
    const seconds = Math.floor(Date.now() / 1000);
    const times = { iat: seconds, nbf: seconds - 1, exp: seconds + TOKEN_SECONDS };
    const aud = `https://127.0.0.1:${this.#server.port}/1.0/sign`;
    const claims = { iss: PROVISIONER, aud, sub: name, sans: [alternativeName], jti: randomUUID(), ...times };
    const text = [{ alg: "ES256", kid: PROVISIONER, typ: "JWT" }, claims].map((part) =>
      Buffer.from(JSON.stringify(part)).toString("base64url"),
    );
    const key = createPrivateKey(this.#provisioner.export({ format: "pem", type: "pkcs8" }));
    const signature = sign("sha256", Buffer.from(text.join(".")), { key, dsaEncoding: "ieee-p1363" });
    return [...text, signature.toString("base64url")].join(".");
  }

  /** Sends a request over a connection of its own. */
  #send(method: string, path: string, body: string, own: { readonly cert?: Buffer; readonly key?: Buffer } = {}): Promise<string> {
    return new Promise((resolve, reject) => {
      const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(body) };
      const agent = new Agent({ keepAlive: false });
      const asked = request({ ...this.#server, ...own, method, path, headers, agent }, (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
        response.on("end", () => {
          if (response.statusCode === 200 || response.statusCode === 201) resolve(text);
          else reject(new Error(`step-ca: ${response.statusCode} ${text}`));
        });
      });
      asked.on("error", reject);
      asked.end(body);
    });
  }
}

function chainIn(answer: string): string {
  const { certChain } = JSON.parse(answer) as { readonly certChain: readonly string[] };
  return certChain.join("");
}
