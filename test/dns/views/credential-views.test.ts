/** Views of callers with credentials: whose they are, and that no plan of one is another's. */
import { expect, test } from "vitest";
import { DEFAULT_VIEW, type DnsView } from "../../../src/dns/subject/subject.ts";
import { CredentialViews } from "../../../src/dns/views/credential-views.ts";
import type { ViewerOfView } from "../../../src/dns/views/views.ts";
import { anonymousCaller, type Caller } from "../../../src/policy/identity/caller.ts";
import { FakeDnsCatalog } from "../../fakes/dns-catalog.ts";

const FIRST = 65;
const MOST = 128;
const of = (tenant: string, principal = "", cluster = "c"): Caller => ({ ...anonymousCaller(cluster, ""), tenant, principal });

function opened() {
  const viewers: ViewerOfView[] = [];
  const views = new CredentialViews(FIRST, (viewer) => {
    viewers.push(viewer);
    return Object.assign(new FakeDnsCatalog(), { view: viewer.view });
  });
  return { views, viewers };
}

test("callers of one tenant and cluster share a catalog, if their addresses have one view; it has their rights, and the place and bounds of that view", () => {
  const { views, viewers } = opened();
  const near: DnsView = { index: 3, locality: { region: "eu", zone: "a" }, answerLimit: 2 };
  const red = views.find(of("red", "one"), DEFAULT_VIEW);
  expect(views.find(of("red", "two"), DEFAULT_VIEW)).toBe(red);
  const others = [
    views.find(of("blue"), DEFAULT_VIEW),
    views.find(of("red", "one", "d"), DEFAULT_VIEW),
    views.find(of("red", "one"), near),
  ];
  expect(new Set([red, ...others]).size).toBe(4);
  expect(viewers.map(({ view, caller }) => [view.index, caller.tenant, caller.cluster])).toEqual([
    [FIRST, "red", "c"],
    [FIRST + 1, "blue", "c"],
    [FIRST + 2, "red", "d"],
    [FIRST + 3, "red", "c"],
  ]);
  expect(others[2]?.view).toEqual({ ...near, index: FIRST + 3, generation: 0 });
});

test("beyond the bound the one that was not asked for longest gives its index away, which no two have in one generation; indexes fit into a byte", () => {
  const { views, viewers } = opened();
  const kept = views.find(of("kept"), DEFAULT_VIEW);
  for (let i = 0; i < 3 * MOST; i++) {
    views.find(of(`t${i}`), DEFAULT_VIEW);
    expect(views.find(of("kept"), DEFAULT_VIEW)).toBe(kept);
  }
  const indexes = viewers.map(({ view }) => view.index);
  expect([Math.min(...indexes), Math.max(...indexes)]).toEqual([FIRST, FIRST + MOST - 1]);
  expect(Math.max(...indexes)).toBeLessThan(256);
  const generations = viewers.map(({ view }) => `${view.index} ${view.generation}`);
  expect(new Set(generations).size).toBe(viewers.length);
  const [last] = viewers.slice(-1);
  expect(last?.view.generation).toBeGreaterThan(0);
});
