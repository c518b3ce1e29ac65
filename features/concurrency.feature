Feature: Many jobs at once
  Different volumes side by side; one volume, one operation at a time, in order of arrival.

  Background:
    Given a running agent

  @serial
  Scenario: 64 creates at once, then 64 deletes
    When 64 create jobs of 16 MiB for different mount points are sent at once
    Then all of them are answered PENDING and DONE, and nothing else
    And 64 volumes are attached
    When delete jobs for all of them are sent at once
    Then all of them are answered PENDING and DONE, and nothing else
    And nothing is left

  @serial
  Scenario: 20 creates and deletes mixed for one mount point
    When 20 jobs for "one" are sent at once, create and delete in turn
    Then all of them are answered PENDING and DONE, and nothing else
    And their DONE came in the order in which they were sent
    And nothing is left

  Scenario: A delete right behind its create finds what it has made
    When a create job of 16 MiB for "quick" is sent
    And a delete job for "quick" is sent
    Then both are answered PENDING and DONE, and nothing else
    And nothing is left

  Scenario: Nested mount points wait for each other, and the second is refused
    When a create job of 16 MiB for "outer" is sent
    And a create job of 16 MiB for "outer/inner" is sent
    Then the first is DONE
    And the last fails with "conflict"
    And a volume is attached at "outer"
