/** The driver of a node's machine, without a disk. */

import { now } from "../../src/lib/stall-aware-time.io.ts";
import { CoreDriver, type DrivenMachine } from "../../src/node/core-driver.io.ts";
import type { NodeNotice } from "../../src/node/core-io.ts";

export function driverOf(machine: DrivenMachine, onTold: (told: NodeNotice) => void = () => {}): CoreDriver {
  const done = () => Promise.resolve();
  const driver = new CoreDriver(machine, {
    now,
    write: done,
    renewGeneration: done,
    onCommitted: () => {},
    wake: () => {},
    onRefused: () => {},
  });
  driver.follow(onTold);
  return driver;
}

/** In good order: the goodbye, then the sockets, then the rest. */
export async function stop(driver: CoreDriver, how: "leave" | "keep", deadlineMs: number): Promise<void> {
  await driver.depart(how, deadlineMs / 2);
  await driver.closeNetwork(deadlineMs / 2);
  await driver.close();
}
