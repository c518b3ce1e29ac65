@loop @docker @serial
Feature: After a reboot containers find their volumes, or they fail
  Contract, section 5, with a reboot as far as a test can make one: agent and engine are stopped, and nothing is mounted
  or attached any more. Then the commands of the units are run, in the order of the units.

  Background:
    Given a Docker engine of its own
    And a running agent
    And a volume of 16 MiB at "db"
    And a file at "db/precious"
    And container "db" notes each of its starts in "db", and is always started again
    And the host goes down

  Scenario: A container that is always started again finds its data
    When the host comes up as the units say
    Then container "db" has noted 2 starts
    And container "db" reads "precious" in "precious"
    And the volume at "db" is the same as before
    And the file "db/precious" is as it was
    When a delete job for "db" is sent
    Then it fails with "in-use"
    And its reason names "container `db` (running)"
    When container "db" is removed
    And the same job is sent with a new id
    Then it is answered PENDING and DONE, and nothing else
    And nothing is left

  Scenario: A container whose volume is damaged fails, and writes nothing below
    Given the only image is overwritten at its beginning
    When the host comes up as the units say
    Then a guard lies over "db"
    And container "db" fails again and again
    And nothing was written below the mount point "db"
    When one types "dvs ls --state {state} --json"
    Then it prints JSON with "damaged"

  Scenario: Docker does not start before the volumes are there, and the agent needs nobody
    When the host comes up as the units say, but for Docker
    And a create job of 16 MiB for "new" is sent
    Then it is answered PENDING and DONE, and nothing else
    When a delete job for "new" is sent
    Then it fails with "store-unavailable"
    When the Docker engine starts
    And the same job is sent with a new id
    Then it is answered PENDING and DONE, and nothing else
    And container "db" has noted 2 starts
