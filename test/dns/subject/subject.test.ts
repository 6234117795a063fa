import { expect, test } from "vitest";
import { HEALTH, KIND } from "../../../src/catalog/record/record.ts";
import { findSubject } from "../../../src/dns/subject/subject.ts";
import { entryView, FakeDnsCatalog, nodeView } from "../../fakes/dns-catalog.ts";

test("targets come by health, and within one health in the catalog's order", () => {
  const catalog = new FakeDnsCatalog([
    entryView({ name: "web", instanceId: "1", health: HEALTH.CRITICAL, targets: [{ host: "10.0.0.1" }] }),
    entryView({ name: "web", instanceId: "2", targets: [{ host: "10.0.0.2" }, { host: "10.0.0.3" }] }),
    entryView({ name: "web", instanceId: "3", targets: [{ host: "db.example.com" }] }),
  ]);
  const subject = findSubject("web.market", "waymark", catalog);
  const targets = subject.kind === "entries" ? subject.targets : [];
  expect(targets.map(({ target }) => target.host)).toEqual(["10.0.0.2", "10.0.0.3", "db.example.com", "10.0.0.1"]);
  expect(targets.map(({ address }) => address?.length)).toEqual([4, 4, undefined, 4]);
});

test.each([
  { url: "grpc://10.0.0.1:17420", host: "10.0.0.1" },
  { url: "https://[2001:db8::1]:17480/ui", host: "2001:db8::1" },
  { url: "http://user:secret@n1.example.com/path", host: "n1.example.com" },
  { url: "n1.example.com:17420", host: "n1.example.com" },
  { url: "grpc://", host: undefined },
])("a node that advertises $url is at $host", ({ url, host }) => {
  const subject = findSubject("n1.node", "waymark", new FakeDnsCatalog([nodeView("n1", [url])]));
  expect(subject.kind === "entries" ? subject.targets[0]?.target.host : "?").toBe(host);
});

test("an alias leads to the entry's own name, or nowhere when that cannot be written", () => {
  const catalog = new FakeDnsCatalog([
    entryView({ name: "web", aliases: ["shop"] }),
    entryView({ name: "X".repeat(40), aliases: ["long"] }),
    entryView({ name: "X".repeat(150), aliases: ["longer"] }),
    entryView({ kind: KIND.NODE, namespace: "discovery.nodes", name: "n1", aliases: ["first"] }),
  ]);
  expect(findSubject("shop", "waymark", catalog)).toMatchObject({ kind: "alias", target: "web.market.waymark" });
  expect(findSubject("first", "waymark", catalog)).toMatchObject({ kind: "alias", target: "n1.node.waymark" });
  const long = findSubject("long", "waymark", catalog);
  expect(long.kind === "alias" ? long.target : "?").toMatch(/^b32x-\w{58}\.b32-\w{6}\.market\.waymark$/);
  expect(findSubject("longer", "waymark", catalog).kind).toBe("empty");
});

test("an entry without targets exists under _tcp only", () => {
  const catalog = new FakeDnsCatalog([entryView({ name: "web" })]);
  expect(findSubject("_svc._tcp.web.market", "waymark", catalog).kind).toBe("entries");
  expect(findSubject("_svc._udp.web.market", "waymark", catalog).kind).toBe("absent");
});
