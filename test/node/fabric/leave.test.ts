/** What a node does before it leaves: it looks often enough at what others took of it. */
import { afterEach, expect, test, vi } from "vitest";
import { BODY } from "../../../src/catalog/record/record.ts";
import { now } from "../../../src/node/core.ts";
import { handOver } from "../../../src/node/fabric/leave.ts";
import { at, Registry, stamped } from "../../fakes/registry.ts";

afterEach(() => void vi.useRealTimers());

test("what another node takes at once is handed over within a second, however long a stop may take", async () => {
  const r = new Registry();
  r.register("ann", [stamped("web")], at(0), { isStatic: true });
  const told: string[] = [];
  const parts = {
    core: { registrar: r.registrar, committer: { durable: async () => r.flush(now()) } },
    // Taken over as soon as it is offered: put by b, above.
    driver: { input: ({ kind }: { readonly kind: string }) => (kind === "offer" ? r.hear("web", BODY.ENTRY, 1, now()) : undefined) },
    leaving: { takers: () => [{ nodeId: "b", refusals: 0 }] },
    events: { tell: ({ name }: { readonly name: string }) => void told.push(name) },
    log: { warn: () => {} },
  };
  vi.useFakeTimers({ toFake: ["setTimeout"] });
  let leftCount: number | undefined;
  void handOver(parts, Number.POSITIVE_INFINITY).then((count) => (leftCount = count));
  await vi.advanceTimersByTimeAsync(1_000);
  expect([leftCount, told]).toEqual([0, ["static_entries_handed_over"]]);
});
