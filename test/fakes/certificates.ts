/** Certificates for TLS tests, made with openssl: an authority, and leaves it signed for localhost. */
import { execFileSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export interface Leaf {
  readonly certFile: string;
  readonly keyFile: string;
  readonly cert: Buffer;
  readonly key: Buffer;
}

/** An authority whose files live in `folder`. */
export class TestAuthority {
  readonly caFile: string;
  readonly #folder: string;
  readonly #keyFile: string;

  constructor(folder: string, name: string) {
    this.#folder = folder;
    this.caFile = join(folder, `${name}.pem`);
    this.#keyFile = join(folder, `${name}.key`);
    const subject = ["-subj", `/CN=${name}`, "-days", "2"];
    openssl(
      "req",
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
      "-nodes",
      ...subject,
      "-keyout",
      this.#keyFile,
      "-out",
      this.caFile,
    );
  }

  get ca(): Buffer {
    return readFileSync(this.caFile);
  }

  /** A list of revoked certificates as a file, with these certificates in it. */
  revoke(name: string, ...revoked: readonly Leaf[]): string {
    const at = (suffix: string) => join(this.#folder, `${name}.${suffix}`);
    const rows = revoked.map(({ cert }) => `R\t350101000000Z\t240101000000Z\t${new X509Certificate(cert).serialNumber}\tunknown\t/CN=x\n`);
    writeFileSync(at("index"), rows.join(""));
    writeFileSync(at("conf"), `[ca]\ndefault_ca = d\n[d]\ndatabase = ${at("index")}\ndefault_md = sha256\ndefault_crl_days = 1\n`);
    openssl("ca", "-gencrl", "-config", at("conf"), "-keyfile", this.#keyFile, "-cert", this.caFile, "-out", at("crl"));
    return at("crl");
  }

  /** A key and a certificate for localhost and 127.0.0.1 unless other names are given, for servers and clients alike. */
  issue(name: string, names = "DNS:localhost,IP:127.0.0.1"): Leaf {
    const at = (suffix: string) => join(this.#folder, `${name}.${suffix}`);
    openssl(
      "req",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
      "-nodes",
      "-subj",
      `/CN=${name}`,
      "-keyout",
      at("key"),
      "-out",
      at("csr"),
    );
    writeFileSync(at("ext"), `subjectAltName=${names}\n`);
    const signing = ["-CA", this.caFile, "-CAkey", this.#keyFile, "-CAcreateserial", "-days", "2", "-extfile", at("ext")];
    openssl("x509", "-req", "-in", at("csr"), ...signing, "-out", at("pem"));
    return { certFile: at("pem"), keyFile: at("key"), cert: readFileSync(at("pem")), key: readFileSync(at("key")) };
  }
}

function openssl(...args: readonly string[]): void {
  execFileSync("openssl", [...args], { stdio: "pipe" });
}
