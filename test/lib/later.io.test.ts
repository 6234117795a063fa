import { expect, test } from "vitest";
import { MAX_TIMER_MS } from "../../src/lib/duration.ts";
import { later } from "../../src/lib/stall-aware-time.io.ts";
import { until } from "../fakes/until.ts";

test("a delay that is over already runs at once and gives no warning, and one longer than any timer never runs", async () => {
  const warnings: string[] = [];
  const onWarning = ({ name }: Error): void => void warnings.push(name);
  process.on("warning", onWarning);
  const ran: string[] = [];
  later(() => ran.push("over"), -1);
  later(() => ran.push("too long"), MAX_TIMER_MS + 1);
  later(() => ran.push("cancelled"), 0)();
  await until("the first ran", () => ran.length > 0);
  process.off("warning", onWarning);
  expect({ ran, warnings }).toEqual({ ran: ["over"], warnings: [] });
});
