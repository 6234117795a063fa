/** Names that DNS answers by an alias, through the listeners of a real node's inside: registered, asked for, and judged anew by another policy. */
import assert from "node:assert/strict";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { expect, onTestFinished, test } from "vitest";
import type { EntrySchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { RegisterRequestSchema } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { formatName } from "../../src/dns/names/names.ts";
import type { DnsCatalog } from "../../src/dns/subject/subject.ts";
import { onlyView } from "../../src/dns/views/query-client.ts";
import { runThrough } from "../../src/lib/machine.ts";
import { anonymousCaller, MESH_ROLES } from "../../src/policy/identity/caller.ts";
import type { NamespaceRule } from "../../src/policy/set/rules.ts";
import { type DiscoveryInside, startDiscovery } from "../fakes/discovery-service.ts";
import { queryBytes, responseText } from "../fakes/dns-text.ts";
import { rule, set } from "../fakes/policies.ts";

class Bench {
  readonly #inside: DiscoveryInside;
  readonly #responder: ReturnType<DiscoveryInside["responder"]>;
  /** One for all questions, as in a node, where answers are kept by it. */
  readonly #catalog: DnsCatalog;

  constructor(inside: DiscoveryInside) {
    this.#inside = inside;
    this.#catalog = inside.dns(0.5);
    this.#responder = inside.responder();
  }

  async register(tenant: string, entry: MessageInitShape<typeof EntrySchema>, roles: readonly string[] = ["mesh.operate"]): Promise<void> {
    await this.registerAll(tenant, [entry], roles);
  }

  async registerAll(
    tenant: string,
    entries: readonly MessageInitShape<typeof EntrySchema>[],
    roles: readonly string[] = ["mesh.operate"],
  ): Promise<void> {
    const handler = this.#inside.service.handlers["register"];
    assert(handler?.kind === "unary");
    const caller = { ...anonymousCaller("local", "127.0.0.1", roles), principal: tenant, tenant };
    const request = create(RegisterRequestSchema, {
      entries: entries.map((entry) => ({ targets: [{ host: "192.0.2.1", port: 1 }], scope: 3, ...entry })),
      staticLease: true,
    });
    await handler.handle(request as never, { caller, time: this.#inside.now(), requestId: "" });
  }

  async policy(rules: readonly NamespaceRule[]): Promise<void> {
    const { core } = this.#inside;
    const { policies } = core;
    const terms = { expectedNumber: 0, stage: undefined, principal: "op", reason: "", changeTicket: "" };
    policies.commit(runThrough(policies.stamped(set(rules, { defaultAllow: true }), terms, this.#inside.now().wallMs)), 100);
    await core.switchPolicy();
  }

  ask(name: string, zone = "waymark"): string {
    const reply = this.#responder.respond(queryBytes({ name: `${name}.${zone}`, type: "A" }), "tcp", () => onlyView(this.#catalog));
    assert(reply !== undefined);
    return responseText(reply.bytes).split("\n").slice(0, 2).join(" ");
  }
}

async function open(zones?: readonly string[]): Promise<{ readonly bench: Bench; readonly stop: () => Promise<void> }> {
  const inside = await startDiscovery(zones);
  return { bench: new Bench(inside), stop: () => inside.stop() };
}

const key = (namespace: string, name: string) => ({ namespace, name, kind: 1, instanceId: "1" });

test("an alias in a namespace that policy gives to another answers nothing, and is judged anew by the next policy", async () => {
  const { bench, stop } = await open();
  try {
    await bench.register("evil", { key: key("svc.evil", "web"), aliases: ["api.svc.bank", "shop.svc.evil", "api.svc.bank.waymark"] });
    expect(bench.ask("api.svc.bank")).toMatch(/^NOERROR.*CNAME/);
    await bench.policy([rule("svc.bank", { owners: ["bank"] })]);
    expect(bench.ask("api.svc.bank")).toMatch(/^NXDOMAIN/);
    expect(bench.ask("svc.bank")).toMatch(/^NXDOMAIN/);
    expect(bench.ask("shop.svc.evil")).toMatch(/^NOERROR.*CNAME/);
    await bench.policy([rule("svc.bank", { visibilityTenants: ["bank"] })]);
    expect(bench.ask("api.svc.bank")).toMatch(/^NXDOMAIN/);
    await bench.policy([]);
    expect(bench.ask("api.svc.bank")).toMatch(/^NOERROR.*CNAME/);
  } finally {
    await stop();
  }
});

test("an alias loses to a real name, and one of a single label needs mesh.admin", async () => {
  const { bench, stop } = await open();
  try {
    await bench.register("evil", { key: key("svc.evil", "web"), aliases: ["api.svc.bank"] });
    await bench.register("bank", { key: key("svc.bank", "api") });
    expect(bench.ask("api.svc.bank")).toMatch(/^NOERROR.* A 192/);
    for (const alias of ["pay", "pay.waymark", "Pay."])
      await expect(bench.register("evil", { key: key("svc.evil", "w"), aliases: ["a.b", alias] })).rejects.toMatchObject({
        reason: "discovery_access_denied",
      });
    await bench.register("op", { key: key("svc.op", "web"), aliases: ["pay"] }, MESH_ROLES);
    expect(bench.ask("pay")).toMatch(/^NOERROR.*CNAME/);
  } finally {
    await stop();
  }
});

test("with several zones an alias is judged by the name it stands for in the zone that is asked", async () => {
  const { bench, stop } = await open(["waymark", "corp", "eu.corp", "bank"]);
  try {
    // In full in the zone eu.corp, whatever corp makes of it.
    const single = bench.register("evil", { key: key("svc.evil", "w"), aliases: ["pay.eu.corp"] });
    await expect(single).rejects.toMatchObject({ reason: "discovery_access_denied" });
    await bench.register("evil", { key: key("svc.evil", "web"), aliases: ["api.svc.bank", "api.svc.eu.corp"] });
    const asked = (): readonly string[] =>
      [bench.ask("api.svc.bank"), bench.ask("api.svc", "bank"), bench.ask("api.svc", "eu.corp"), bench.ask("api.svc.eu.corp")].map(
        (answer) => answer.split(" ")[0] ?? "",
      );
    const [yes, no] = ["NOERROR", "NXDOMAIN"];
    expect(asked()).toEqual([yes, yes, yes, yes]);
    await bench.policy([rule("svc.bank", { owners: ["bank"] })]);
    expect(asked()).toEqual([no, yes, yes, yes]);
    expect(bench.ask("svc.bank")).toMatch(/^NXDOMAIN/);
    await bench.policy([rule("svc", { owners: ["bank"] }), rule("svc.bank", {}), rule("svc.eu.corp", {}), rule("svc.evil", {})]);
    expect(asked()).toEqual([yes, no, no, yes]);
    await bench.policy([rule("svc.eu.corp", { owners: ["bank"] })]);
    expect(asked()).toEqual([yes, yes, yes, no]);
  } finally {
    await stop();
  }
});

test("an alias that can be no name in DNS is refused where it is registered, and so are two that are one name there", async () => {
  const inside = await startDiscovery();
  onTestFinished(() => inside.stop());
  const bench = new Bench(inside);
  const register = (aliases: readonly string[]) => bench.register("t", { key: key("svc.a", "web"), aliases: [...aliases] }, MESH_ROLES);
  const label = "x".repeat(63);
  for (const alias of ["a..b", ".a", "a.b..", `${label}x.b`])
    await expect(register(["fine.example", alias])).rejects.toThrow(/entries\[0\]\.aliases\[1\]: must have labels of 1 to 63 characters/);
  for (const alias of ["A.b", "a.b."])
    await expect(register(["a.b", alias])).rejects.toThrow(/aliases\[1\]: is the same DNS name as entries\[0\]\.aliases\[0\]/);
  await expect(register([`${label}.b`, "_x.b", "c.d."])).resolves.toBeUndefined();
});

test("an alias is seen only by those who see its namespace and the entry's; what hides it says nothing of it", async () => {
  const { bench, stop } = await open();
  try {
    await bench.register("bank", { key: key("svc.open", "web"), aliases: ["api.svc.bank", "_sip._tcp.api.svc.bank", "vault"] }, MESH_ROLES);
    await bench.register("bank", { key: key("svc.shut", "web"), aliases: ["www.svc.open"] });
    const names = ["api.svc.bank", "_sip._tcp.api.svc.bank", "vault", "www.svc.open", "svc.bank"];
    const asked = () => names.map((name) => bench.ask(name).split(" ")[0]);
    const [yes, no] = ["NOERROR", "NXDOMAIN"];
    expect(asked()).toEqual([yes, yes, yes, yes, yes]);
    await bench.policy([rule("svc.bank", { visibilityTenants: ["bank"] })]);
    expect(asked()).toEqual([no, no, yes, yes, no]);
    const soa = (name: string) => bench.ask(name).replace(/^.* SOA/, "SOA");
    expect(soa("api.svc.bank")).toBe(soa("never.svc.bank"));
    await bench.policy([rule("svc.shut", { visibilityTenants: ["bank"] })]);
    expect(asked()).toEqual([yes, yes, yes, no, yes]);
    // A rule for the name itself hides it too.
    await bench.policy([rule("vault", { visibilityTenants: ["bank"] }), rule("api.svc.bank", { visibilityTenants: ["bank"] })]);
    expect(asked()).toEqual([no, no, no, yes, no]);
  } finally {
    await stop();
  }
});

test("many aliases in a namespace that is hidden do not make the names above them exist", async () => {
  const { bench, stop } = await open();
  try {
    for (let i = 0; i < 300; i += 50) {
      const aliases = Array.from({ length: 50 }, (_, n) => `a${i + n}.svc.bank`);
      await bench.register("bank", { key: key("svc.open", `web${i}`), aliases });
    }
    expect(bench.ask("svc.bank")).toMatch(/^NOERROR/);
    await bench.policy([rule("svc.bank", { visibilityTenants: ["bank"] })]);
    expect(bench.ask("svc.bank")).toMatch(/^NXDOMAIN/);
    expect(bench.ask("bank")).toMatch(/^NXDOMAIN/);
  } finally {
    await stop();
  }
});

test("an alias is judged by the namespace that its labels spell, and not by their text", async () => {
  const { bench, stop } = await open();
  try {
    // `b32-bank` needs base32, because it begins with the prefix.
    const alias = formatName({ form: "direct", name: "api", namespace: "svc.b32-bank" }, "waymark")?.replace(/\.waymark$/, "") ?? "";
    await bench.register("evil", { key: key("svc.evil", "web"), aliases: [alias] });
    expect(bench.ask(alias)).toMatch(/^NOERROR.*CNAME/);
    await bench.policy([rule("svc.b32-bank", { owners: ["bank"] })]);
    expect(bench.ask(alias)).toMatch(/^NXDOMAIN/);
    await bench.policy([rule("svc.b32-bank", { visibilityTenants: ["bank"] })]);
    expect(bench.ask(alias)).toMatch(/^NXDOMAIN/);
  } finally {
    await stop();
  }
});

test("of services that share an alias the first in key order is told, however many entries the others have, and a service's own name below it is its own", async () => {
  const { bench, stop } = await open();
  try {
    for (const name of ["b", "c", "d", "e", "f"])
      await bench.register("t", { key: key("svc.b", name), aliases: ["shop.example", "web-0.web.svc.z"] });
    for (const part of [0, 1]) {
      const crowd = Array.from({ length: 700 }, (_, i) => ({ ...key("svc.c", "crowd"), instanceId: `${part}-${i}` }));
      await bench.registerAll(
        "t",
        crowd.map((each) => ({ key: each, aliases: ["shop.example"] })),
      );
    }
    for (let i = 0; i < 3; i++) expect(bench.ask("shop.example")).toMatch(/CNAME b\.svc\.b\.waymark/);
    // In full, and of the last service in key order: that its name is written in full makes no difference.
    await bench.register("t", { key: key("svc.a", "z"), aliases: ["shop.example.waymark"] });
    expect(bench.ask("shop.example")).toMatch(/CNAME z\.svc\.a\.waymark/);
    await bench.register("t", { key: key("svc.z", "web"), aliases: ["web-0.web.svc.z"] });
    expect(bench.ask("web-0.web.svc.z")).toMatch(/ A 192\.0\.2\.1$/);
  } finally {
    await stop();
  }
});
