/** The owner of the control store's file, for its thread: a slow fsync stops this thread and no stream. */
import { serving } from "../thread.io.ts";
import { ControlFile, type ControlFileOptions } from "./file.io.ts";

export const serve = serving((options: ControlFileOptions) => new ControlFile(options));
