/** grpc.health.v1 for a listener: the whole server under "" and each service under its name. */
import type { Server } from "@grpc/grpc-js";
import { HealthImplementation } from "grpc-health-check";
import type { Service } from "../../services/service.ts";

export interface HealthBoard {
  /** Tells every checker and watcher; NOT_SERVING until first called with true. */
  setServing(isServing: boolean): void;
}

/**
 * Adds the health service; Check on an unknown name is NOT_FOUND, Watch says SERVICE_UNKNOWN and stays open. A service whose every method
 * answers `unimplemented` is NOT_SERVING as long as the node lives: a client that waits for its health must not be sent to it.
 */
export function addHealth(server: Server, services: readonly Service[]): HealthBoard {
  const built = services.filter(({ handlers }) => Object.keys(handlers).length > 0).map(({ desc }) => desc.typeName);
  const names = ["", ...services.map(({ desc }) => desc.typeName)];
  const health = new HealthImplementation(Object.fromEntries(names.map((name) => [name, "NOT_SERVING"])));
  health.addToServer(server);
  return {
    setServing: (isServing) => {
      for (const name of ["", ...built]) health.setStatus(name, isServing ? "SERVING" : "NOT_SERVING");
    },
  };
}
