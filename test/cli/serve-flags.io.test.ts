/** The commands that `serve` suggests to a person have the flags that the node's settings require. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import type { ServeRequest } from "../../src/cli/environment.ts";
import { makeAuthority } from "../../src/main/identity.ts";
import { TestAuthority } from "../fakes/certificates.ts";
import { waymark } from "../fakes/cli-world.ts";

const folder = mkdtempSync(join(tmpdir(), "waymark-serve-"));
const authority = new TestAuthority(folder, "authority");
const { certFile, keyFile } = authority.issue("node");
const TLS = { cert_file: certFile, key_file: keyFile };
afterAll(() => rmSync(folder, { recursive: true }));

const dataDir = join(folder, "issuer");
makeAuthority({ nodeId: "n1", clusterId: "local", caDir: join(folder, "ca"), dataDir, trustDomain: "waymark.test" });

const READ_ONLY = { tenants: { anonymous: "read" } };
const CLOSED = { tenants: { anonymous: "none" } };
const MUTUAL = { ...TLS, ca_file: authority.caFile, require_client_cert: true };

/** The notes of a process that `serve` started with these settings and that listens on port 5. */
async function notes(settings: object, argv: readonly string[] = []): Promise<string> {
  const serve = async ({ onReady }: ServeRequest) => onReady({ nodeId: "n1", listeners: { grpc: "127.0.0.1:5" }, fault: "" });
  const files = { "node.json": JSON.stringify(settings) };
  return (await waymark(["serve", "--config", "node.json", ...argv], { serve, files })).stderr;
}

test.each([
  { name: "no TLS", settings: {}, flags: " --server 127.0.0.1:5" },
  { name: "TLS", settings: { tls: TLS }, flags: " --server 127.0.0.1:5 --ca CA-FILE" },
  {
    name: "TLS and an advertised name",
    settings: { tls: TLS, listen: { advertise_host: "node-1.example" } },
    flags: " --server node-1.example:5 --ca CA-FILE",
  },
  {
    name: "TLS and an advertised IPv6 address",
    settings: { tls: TLS, listen: { advertise_host: "fd00::1" } },
    flags: " --server [fd00::1]:5 --ca CA-FILE",
  },
  {
    name: "a certificate of an issuer",
    settings: { tls: { source: "identity" }, listen: { advertise_host: "node-1.example" }, persistence: { data_dir: dataDir } },
    flags: ` --server node-1.example:5 --ca ${join(dataDir, "identity", "roots.pem")} --token TOKEN`,
  },
  {
    name: "client certificates",
    settings: { tls: MUTUAL },
    flags: " --server 127.0.0.1:5 --ca CA-FILE --cert CERTIFICATE-FILE --key KEY-FILE",
  },
  { name: "a credential for writes", settings: READ_ONLY, flags: " --server 127.0.0.1:5 --token TOKEN" },
  { name: "TLS and a credential", settings: { tls: TLS, ...CLOSED }, flags: " --server 127.0.0.1:5 --ca CA-FILE --token TOKEN" },
])("a node with $name", async ({ settings, flags }) => {
  expect(await notes(settings)).toContain(`--target 10.0.0.1:8080/http${flags}\n`);
});

test.each([
  {
    name: "a credential for writes",
    settings: READ_ONLY,
    flags: " --server 127.0.0.1:5",
    roleFlags: " --server 127.0.0.1:5 --token TOKEN",
  },
  { name: "TLS and a credential", settings: { tls: TLS, ...CLOSED }, flags: " --server 127.0.0.1:5 --ca CA-FILE --token TOKEN" },
])("a resolver with $name", async ({ settings, flags, roleFlags = flags }) => {
  const said = await notes(settings, ["--mode", "resolver", "--upstream", "127.0.0.1:1"]);
  expect(said).toContain(`  ./bin/waymark discovery query${flags}\n`);
  expect(said).toContain(`  ./bin/waymark resolver cache-stats${roleFlags}\n`);
});
