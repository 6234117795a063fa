/** What the files of borders hold: tokens and authorities, and why some are refused. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { BORDERS } from "../../../src/config/borders.ts";
import { readBorders, readTlsAndBorders } from "../../../src/node/fabric/borders.io.ts";
import { FabricAuthority } from "../../fakes/fabric-transport.ts";
import { SETTINGS } from "../../fakes/options.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-borders-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));

function file(name: string, content: string | Uint8Array): string {
  const path = join(HOME, name);
  writeFileSync(path, content, { mode: 0o600 });
  return path;
}

function bordersOf(...trusts: readonly object[]) {
  const parsed = BORDERS.parse(trusts.map((trust, i) => ({ cluster_id: `us${i}`, region: "us", trust })));
  if ("faults" in parsed) throw new Error(JSON.stringify(parsed.faults));
  return parsed.value;
}

const ONE = file("one", "a-token-of-a-border\n");
const TWO = file("two", "another-token-of-one\na-token-of-a-border\n");

test("a border has the tokens of its file; no two borders and no border and the fabric have the same", () => {
  expect(readBorders(bordersOf({ token_file: TWO }), { clusterToken: "a-token-of-the-cluster" })).toMatchObject([
    { clusterId: "us0", trust: { kind: "token", token: "another-token-of-one", otherToken: "a-token-of-a-border" } },
  ]);
  expect(() => readBorders(bordersOf({ token_file: ONE }, { token_file: TWO }), { clusterToken: "" })).toThrow(
    `fabric.borders[1].trust.token_file: ${TWO} has the same token as fabric.borders[0]: use a separate token for each`,
  );
  expect(() => readBorders(bordersOf({ token_file: TWO }), { clusterToken: "x", otherToken: "a-token-of-a-border" })).toThrow(
    "has the same token as the fabric",
  );
  expect(() => readBorders(bordersOf({ token_file: file("bad", "short\n") }), { clusterToken: "" })).toThrow("expected one or two lines");
});

test("the authorities of borders go along with the certificates of the fabric, with its trust domain where none is named", () => {
  const [own, us] = [new FabricAuthority(), new FabricAuthority()];
  const tls = own.issue("eu1a", { clusterId: "eu1" });
  const files = { certFile: file("cert", tls.cert), keyFile: file("key", tls.key), caFile: file("ca", tls.clientCa) };
  const settings = { ...SETTINGS, fabric: { ...SETTINGS.fabric, ...files } };
  const self = { nodeId: "eu1a", clusterId: "eu1" };
  const caFile = file("us.pem", us.ca);
  const read = readTlsAndBorders(settings, bordersOf({ ca_file: caFile }, { ca_file: caFile, trust_domain: "us.example" }), self);
  expect(read?.borders?.map(({ clusterId, trustDomain }) => `${clusterId} ${trustDomain}`)).toEqual(["us0 waymark", "us1 us.example"]);
  expect(read?.clientCa).toEqual(Buffer.from(tls.clientCa));
  expect(() => readTlsAndBorders(settings, bordersOf({ ca_file: ONE }), self)).toThrow(
    `fabric.borders[0].trust.ca_file: ${ONE} contains no certificate in PEM format`,
  );
  expect(readTlsAndBorders(SETTINGS, [], self)).toBeUndefined();
});
