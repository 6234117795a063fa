/** BootstrapService publishes, shows and drops roots, and issues certificates under a root only when all live nodes accept it. */
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, type DescMessage, type DescMethodUnary, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import { afterAll, expect, test } from "vitest";
import { BootstrapService, IdentityRole } from "../../../gen/waymark/control/v1/bootstrap_pb.js";
import { Authority } from "../../../src/control/identity/authority.io.ts";
import { Issuer } from "../../../src/control/identity/issuer.ts";
import { encodeIdentity } from "../../../src/control/identity/records.ts";
import { type RotationMember } from "../../../src/control/identity/rotation.ts";
import { TrustCopy } from "../../../src/control/identity/trust.ts";
import { certificatesIn, rootDigestOf } from "../../../src/lib/certificates/roots.io.ts";
import { P256PrivateKey } from "../../../src/lib/crypto.ts";
import { anonymousCaller } from "../../../src/policy/identity/caller.ts";
import { requestCheckOf } from "../../../src/services/contract.ts";
import { bootstrapService, type IdentityOperation } from "../../../src/services/identity/bootstrap.ts";
import { openMemoryStore } from "../../../src/store/control/sqlite.io.ts";
import { TestAuthority } from "../../fakes/certificates.ts";

const folder = mkdtempSync(join(tmpdir(), "waymark-rotation-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const { method } = BootstrapService;
const WALL_MS = Date.now();
const [first = "", next = ""] = ["first", "next"].map((name) => new TestAuthority(folder, name).ca.toString());
const [rootDigest = ""] = certificatesIn(next).map(rootDigestOf);
const newKey = () => generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;

/** An issuer under the root `next`, and the members that it sees. */
function issuer(members: readonly RotationMember[], isIssuer = true) {
  const store = openMemoryStore();
  const facts = {
    trustDomain: "waymark.test",
    clusterId: "eu",
    nodeId: "eu-1",
    certificate: "",
    root: next,
    rootDigest,
  };
  const signing = new Issuer({ ...facts, key: new P256PrivateKey(newKey()), notAfterWallMs: WALL_MS + 1e9, random: randomBytes });
  const published: string[] = [];
  const rotation = () => ({ published, members });
  const authority = new Authority({ store, issuer: signing, leafTtlMs: 1000, renewAfterEndMs: 1000, rotation });
  const operations: string[] = [];
  const onOperation = (_: unknown, { action, detail, refusal }: IdentityOperation) =>
    void operations.push(`${action} ${detail} ${refusal}`);
  const copy = new TrustCopy("eu");
  copy.apply([
    { key: `trust/roots/${rootDigest}`, value: encodeIdentity({ certificate: next, publishedWallMs: 1 }) },
    { key: "trust/issuers/k", value: encodeIdentity({ nodeId: "eu-1", address: "eu-1:17421", rootKey: "", expiresWallMs: 1 }) },
  ]);
  const { handlers } = bootstrapService({ authority: isIssuer ? authority : undefined, copy, leafTtlMs: 1000, onOperation });
  const call = async <I extends DescMessage, O extends DescMessage>(
    { localName, input }: DescMethodUnary<I, O>,
    init: MessageInitShape<I>,
  ): Promise<MessageShape<O>> => {
    const handler = handlers[localName];
    if (handler?.kind !== "unary") throw new Error(`${localName} is not unary`);
    const request = create(input, init);
    requestCheckOf(input)(request);
    const context = { caller: anonymousCaller("eu", "127.0.0.1", ["mesh.admin"]), time: { monoMs: 0, wallMs: WALL_MS }, requestId: "r-1" };
    return (await handler.handle(request as never, context)) as MessageShape<O>;
  };
  return { call, published, operations };
}

test("roots are published, shown with the nodes that accept and use them, and dropped", async () => {
  const members: RotationMember[] = [];
  const { call, operations } = issuer(members);
  const { rootId: old } = await call(method.publishRoot, { certificate: first });
  const { rootId } = await call(method.publishRoot, { certificate: next });
  members.push(
    { nodeId: "eu-1", security: { root: rootId, roots: [old, rootId] } },
    { nodeId: "eu-2", security: { root: old, roots: [old] } },
  );
  const { accepted, liveNodes, roots } = await call(method.authority, {});
  const rows = accepted.map((each) => [each.name, each.rootId, each.missingOn.join(), each.usedBy.join()].join(" "));
  expect(rows.toSorted()).toEqual([`first ${old}  eu-2`, `next ${rootId} eu-2 eu-1`]);
  expect([liveNodes, roots.length]).toEqual([2, 2]);
  await expect(call(method.dropRoot, { rootId: old })).rejects.toThrow("not_ready");
  await call(method.dropRoot, { rootId: old, force: true });
  expect(operations.map((each) => each.trim()).filter((each) => !each.includes("force=false"))).toEqual([
    `identity.publish_root root=${old}`,
    `identity.publish_root root=${rootId}`,
    `identity.drop_root root=${old} force=true`,
  ]);
});

test("an issuer issues nothing under a root that a live node does not accept yet", async () => {
  const id = rootDigest.slice(0, 16);
  const members: RotationMember[] = [{ nodeId: "eu-2", security: { root: "a", roots: ["a"] } }];
  const { call, published } = issuer(members);
  const asked = { role: IdentityRole.CLIENT, name: "billing", publicKey: new P256PrivateKey(newKey()).publicKey };
  published.push("a");
  await expect(call(method.issue, asked)).rejects.toThrow(`not_ready: the root ${id} of this issuer is not accepted yet by node eu-2`);
  published.push(id);
  await expect(call(method.issue, asked)).rejects.toThrow(`not_ready: the root ${id} of this issuer is not accepted yet by node eu-2`);
  members.splice(0, 1, { nodeId: "eu-2", security: { root: "a", roots: ["a", id] } });
  expect((await call(method.issue, asked)).certificates).toMatch(/^-----BEGIN CERTIFICATE/);
});

test("a node without an issuing certificate names the issuers", async () => {
  const { call } = issuer([], false);
  await expect(call(method.publishRoot, { certificate: first })).rejects.toThrow(/^wrong_node: .*eu-1:17421/);
  await expect(call(method.dropRoot, { rootId: "0000000000000000" })).rejects.toThrow("wrong_node");
});
