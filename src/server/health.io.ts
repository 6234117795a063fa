/** grpc.health.v1 for a listener: the whole server under "" and each service under its name. */
import type { Server } from "@grpc/grpc-js";
import { HealthImplementation } from "grpc-health-check";

export interface HealthBoard {
  /** Tells every checker and watcher; NOT_SERVING until first called with true. */
  setServing(isServing: boolean): void;
}

/** Adds the health service; Check on an unknown name is NOT_FOUND, Watch says SERVICE_UNKNOWN and stays open. */
export function addHealth(server: Server, serviceNames: readonly string[]): HealthBoard {
  const names = ["", ...serviceNames];
  const health = new HealthImplementation(Object.fromEntries(names.map((name) => [name, "NOT_SERVING"])));
  health.addToServer(server);
  return {
    setServing: (isServing) => {
      for (const name of names) health.setStatus(name, isServing ? "SERVING" : "NOT_SERVING");
    },
  };
}
