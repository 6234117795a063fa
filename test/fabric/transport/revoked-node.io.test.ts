/** Nodes whose certificates are in a revocation list (fabric.crl_file). */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, expect, test } from "vitest";
import type { FabricTls } from "../../../src/fabric/transport/peer-identity.io.ts";
import { TestAuthority } from "../../fakes/certificates.ts";
import { FabricAuthority, openTestTransport } from "../../fakes/fabric-transport.ts";
import { greetingOf } from "../../fakes/fabric-world.ts";
import { until } from "../../fakes/until.ts";

type Machine = Awaited<ReturnType<typeof openTestTransport>>;

const folder = mkdtempSync(join(tmpdir(), "waymark-revoked-"));
const own = new TestAuthority(folder, "own");
const leafOf = (nodeId: string) => own.issue(nodeId, `URI:spiffe://waymark/waymark/cluster/c1/node/${nodeId}`);
const leaves = { good: leafOf("good"), judge: leafOf("judge"), stolen: leafOf("stolen") };
const crls = [readFileSync(own.revoke("list", leaves.stolen))];
const opened: Machine[] = [];

afterEach(async () => {
  for (const { transport } of opened.splice(0)) await transport.stop(0);
});
afterAll(() => rmSync(folder, { recursive: true }));

async function node(name: keyof typeof leaves, more: Partial<FabricTls> = {}): Promise<Machine> {
  const { cert, key } = leaves[name];
  const machine = await openTestTransport({ tls: { cert, key, clientCa: own.ca, ...more } });
  machine.greeting = { kind: "hello", hello: greetingOf("x") };
  opened.push(machine);
  return machine;
}

let lastLink = 0;

async function links(from: Machine, to: Machine, border?: string): Promise<boolean> {
  const { length } = to.incoming();
  const link = (lastLink -= 2);
  from.transport.openLink(link, to.transport.address, border);
  await until("the link is open or refused", () => to.incoming().length > length || from.unopened.has(link));
  return to.incoming().length > length;
}

test("a node with the list links with other nodes, and not with a revoked one in either direction; borders need no list", async () => {
  const us = new FabricAuthority();
  const border = { clusterId: "us1", ca: us.ca, trustDomain: "us.example" };
  const judge = await node("judge", { crls, borders: [border] });
  const [good, stolen] = [await node("good"), await node("stolen")];
  expect([await links(good, judge), await links(stolen, judge)]).toEqual([true, false]);
  expect([await links(judge, stolen), await links(stolen, good)]).toEqual([false, true]);
  const abroad = await openTestTransport({
    tls: {
      ...us.issue("a", { clusterId: "us1", domain: "us.example" }),
      borders: [{ clusterId: "c1", ca: own.ca, trustDomain: "waymark" }],
    },
  });
  opened.push(abroad);
  abroad.greeting = { kind: "hello", hello: greetingOf("x") };
  expect(await links(abroad, judge, "c1")).toBe(true);
});
