//! Processes events when they are due.

use super::World;
use super::event_queue::WorldEvent;
use super::kernel::Mount;
use super::life::Cut;
use crate::scenario::What;

impl World {
    /// Queues the scenario's messages and steps.
    pub(crate) fn plan_scenario(&mut self) {
        for planned in self.scenario.messages.clone() {
            self.plan(&planned);
        }
        for (index, at) in self.scenario.steps.iter().map(|step| step.at).enumerate().collect::<Vec<_>>() {
            self.event_queue.put(at, WorldEvent::Step(index));
        }
    }

    /// Processes the next event that is due; false when none is.
    pub(crate) fn process_due(&mut self) -> bool {
        let now = self.now();
        let Some(event) = self.event_queue.take_due(now) else { return false };
        match event {
            WorldEvent::Step(index) => self.take_step(self.scenario.steps[index].what.clone()),
            WorldEvent::Publish(message) => self.publish(message),
            WorldEvent::Retry(message) => self.retry_unanswered(message),
            WorldEvent::BrokerBack => self.bring_broker_back(),
            WorldEvent::Connected { life } => self.connected(life),
            WorldEvent::Delivered { connection, delivery } => self.delivered(connection, delivery),
            WorldEvent::TakenAcknowledged { connection, delivery } => {
                self.taken_acknowledged(connection, delivery);
            }
            WorldEvent::Answered { connection, answer } => self.answered(connection, answer),
            WorldEvent::AnswerAcknowledged { connection, answer } => {
                self.answer_acknowledged(connection, answer);
            }
        }
        true
    }

    fn take_step(&mut self, what: What) {
        match what {
            What::Publish { message } => self.publish(message),
            What::ContainerMade { name, path, volume, running } => {
                self.make_container(name, &path, volume, running);
            }
            What::ContainerGone { name } => self.end_container(name),
            What::FileOpened { path } => {
                if self.kernel.open_file(&path) {
                    self.log(format_args!("a process opens a file in {path}"));
                }
            }
            What::FileClosed { path } => self.kernel.close_file(&path),
            What::NamespaceMade { path } => {
                if self.kernel.pin_in_namespace(format!("ns {path}"), &path) {
                    self.log(format_args!("a mount namespace takes {path} along"));
                }
            }
            What::NamespaceGone { path } => self.kernel.end_namespace(&format!("ns {path}")),
            What::ForeignMounted { path } => {
                if self.kernel.top(&path).is_none() && self.disk.directories.contains(&path) {
                    self.log(format_args!("somebody mounts something at {path}"));
                    self.kernel.mount(&path, Mount::Foreign);
                }
            }
            What::ForeignUnmounted { path } => self.kernel.unmount(&path, Mount::Foreign),
            What::BrokerAway { milliseconds, forgets } => self.take_broker_away(milliseconds, forgets),
            What::Reconnect => self.disconnect(),
            What::EngineSilent { milliseconds } => {
                self.log(format_args!("engine is silent for {milliseconds} ms"));
                self.engine_silent_for(milliseconds);
            }
            What::StoreAway { store, milliseconds } => {
                self.log(format_args!("store {store} is away for {milliseconds} ms"));
                self.store_away_for(store, milliseconds);
            }
            What::StoreFull { store, milliseconds } => {
                self.log(format_args!("store {store} is full for {milliseconds} ms"));
                self.store_full_for(store, milliseconds);
            }
            What::VolumeDamaged { store, which } => self.damage(store, which),
            What::JournalFull { milliseconds } => {
                self.log(format_args!("journal is full for {milliseconds} ms"));
                self.journal_full_for(milliseconds);
            }
            What::JournalBroken { milliseconds } => {
                self.log(format_args!("journal is broken for {milliseconds} ms"));
                self.journal_broken_for(milliseconds);
            }
            What::Crash { power, down_milliseconds } => {
                self.cut(Cut { power, down_milliseconds }, "any moment");
            }
            What::ClockStepped { milliseconds } => self.step_clock(milliseconds),
            What::Paused { milliseconds } => self.pause(milliseconds),
            What::Stop { down_milliseconds } => self.tell_to_stop(down_milliseconds),
            What::Arm(armed) => self.faults.arm(armed),
        }
    }

    fn damage(&mut self, store: usize, which: usize) {
        let volumes = &mut self.disk.stores[store].volumes;
        let count = volumes.len().max(1);
        let Some((name, image)) = volumes.iter_mut().nth(which % count) else { return };
        image.damaged = true;
        let name = name.clone();
        self.log(format_args!("volume {name} of store {store} is damaged"));
    }

    /// The agent's process is stopped, as by `SIGSTOP`; timers run on.
    fn pause(&mut self, milliseconds: u64) {
        if self.life.stop.is_some() {
            self.log(format_args!("agent is paused for {milliseconds} ms"));
            self.counts.pauses += 1;
            self.life.pause = Some(milliseconds);
        }
    }

    fn tell_to_stop(&mut self, down_milliseconds: u64) {
        let Some(stop) = &self.life.stop else { return };
        stop.send_replace(true);
        self.life.is_stopping = true;
        self.life.stays_down_milliseconds = down_milliseconds;
        self.counts.stops += 1;
        self.log(format_args!("agent is told to stop, and stays down for {down_milliseconds} ms"));
    }

    /// Ends all faults: nothing fails from now on, damaged volumes are repaired, users of volumes end.
    pub(crate) fn heal(&mut self) {
        self.log(format_args!("all faults end"));
        self.healed = true;
        self.faults.heal();
        self.bring_broker_back();
        self.end_all_containers();
        self.kernel.end_users();
        for folder in &mut self.disk.stores {
            folder.volumes.values_mut().for_each(|image| image.damaged = false);
        }
    }
}
